"use strict";
(() => {
  const field = document.getElementById("q"), count = document.getElementById("n");
  const all = () => document.querySelectorAll("details");
  let units = null, hits = [], at = -1;

  function index() {
    const texts = [...document.querySelectorAll(".s")].map((element) => [element, element.textContent.toLowerCase()]);
    const groups = [...document.querySelectorAll(".unit")];
    return { texts, groups };
  }

  function search() {
    const began = performance.now(), wanted = field.value.trim().toLowerCase();
    units = units || index();
    hits.forEach((element) => element.classList.remove("hit", "on"));
    hits = wanted ? units.texts.filter(([, text]) => text.includes(wanted)).map(([element]) => element) : [];
    at = -1;
    const kept = new Set();
    for (const element of hits) {
      element.classList.add("hit");
      for (let unit = element.closest(".unit"); unit && !kept.has(unit); unit = unit.parentElement.closest(".unit")) kept.add(unit);
    }
    for (const unit of units.groups) unit.hidden = wanted !== "" && !kept.has(unit);
    count.textContent = wanted ? `${hits.length} found` : "";
    count.dataset.ms = (performance.now() - began).toFixed(1);
  }

  function go(step) {
    if (!hits.length) return;
    if (at >= 0) hits[at].classList.remove("on");
    at = (at + step + hits.length) % hits.length;
    const hit = hits[at];
    for (let outer = hit.closest("details"); outer; outer = outer.parentElement.closest("details")) outer.open = true;
    hit.classList.add("on");
    hit.scrollIntoView({ block: "center" });
    count.textContent = `${at + 1} of ${hits.length}`;
  }

  field.addEventListener("input", search);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") go(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") { field.value = ""; search(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== field) { event.preventDefault(); field.focus(); }
  });
  document.getElementById("open").addEventListener("click", () => all().forEach((item) => { item.open = true; }));
  document.getElementById("close").addEventListener("click", () => all().forEach((item) => { item.open = false; }));
  addEventListener("beforeprint", () => all().forEach((item) => { item.open = true; }));
})();
