"""``gencore report``: pages beside archives or one for all; and in a real browser."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
from browser import browse, find_headings
from capabilities import needs
from hostile_texts import MARKER
from made_documents import hostile_document, large_document, new_document

from pytest_gencore.page.render import make_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


def test_page_beside_the_archive(gencore: Callable[..., Result], real_archive: Path, tmp_path: Path) -> None:
    """Only its owner may read it; one that cannot be read is told, and the others have their pages."""
    archive = tmp_path / real_archive.name
    archive.symlink_to(real_archive)
    (tmp_path / "bad").write_bytes(b"no archive")
    page = tmp_path / real_archive.name.replace(".tar.gz", ".html")
    page.write_text("an earlier one")

    result = gencore("report", tmp_path / "bad", archive)

    assert (result.exit_code, result.stdout) == (1, f"{page}\n")
    assert result.stderr == f"Error: {tmp_path / 'bad'}: not a gzip file\n"
    assert page.stat().st_mode & 0o777 == 0o600
    text = page.read_text()
    assert "the_test_function" in text
    assert "moon-" not in text or "\x1b" not in text
    assert len(text) < 400_000
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([archive.name, "bad", page.name])


def test_one_page_for_all(gencore: Callable[..., Result], real_archive: Path, tmp_path: Path) -> None:
    page = tmp_path / "all.html"
    result = gencore("report", "-o", page, real_archive, real_archive)

    assert (result.exit_code, result.stdout) == (0, f"{page}\n")
    assert page.read_text().count("<article") == 2


def test_without_jinja2(
    gencore: Callable[..., Result], real_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "pytest_gencore.page.render", raising=False)

    result = gencore("report", real_archive)

    assert result.exit_code == 1
    assert result.stderr == "Error: gencore report needs jinja2: pip install 'pytest-gencore[html]'\n"


SEARCH = """
<script>
addEventListener("load", () => {
  const field = document.getElementById("q"), found = document.getElementById("n");
  const searched = (text) => {
    field.value = text;
    field.dispatchEvent(new Event("input"));
    return [found.textContent, found.dataset.ms];
  };
  const first = searched("Event 1999"), all = searched("function_"), none = searched("no such text");
  const hidden = [...document.querySelectorAll(".unit")].every((unit) => unit.hidden);
  searched("event 1999");
  field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  const hit = document.querySelector(".hit.on");
  const isShown = hit !== null && hit.closest("details").open;
  searched("");
  const loaded = performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd;
  document.title = JSON.stringify({ first, all, none, hidden, isShown, loaded });
});
</script>
"""


@needs("chromium")
@pytest.mark.slow
def test_in_a_browser(tmp_path: Path) -> None:
    """A large page is searched; nothing that a hostile archive says runs; the console stays empty."""
    document = large_document(tmp_path)
    # The policy lets only our script run: take it away to let the test's own run, and nothing else.
    page = re.sub(r"<meta http-equiv=.*>\n", "", make_page([document])).replace("</body>", f"{SEARCH}</body>")
    dom, console = browse(tmp_path, page)
    assert console == []
    title = re.search("<title>(.*?)</title>", dom)
    assert title is not None
    print(f"{len(page)} bytes; found, ms of a search, ms until it was loaded: {title[1]}")
    assert '"first":["1 found"' in title[1]
    assert '"none":["0 found"' in title[1]
    assert '"hidden":true,"isShown":true' in title[1]

    dom, console = browse(tmp_path, make_page([new_document(tmp_path), hostile_document(tmp_path, MARKER)]))
    assert console == []  # not even a refusal: nothing was there to be refused
    assert "<title>test_three.py::test_one (call) and 1 more</title>" in dom
    assert dom.count("<h1") == 2
    assert dom.count("<script") == 1


@needs("chromium")
@pytest.mark.slow
def test_the_policy_holds(tmp_path: Path) -> None:
    """If an element got into the page all the same, Chromium would refuse it."""
    page = make_page([new_document(tmp_path)])
    evil = "<script>document.title = 'gotcha'</script><img src=\"http://127.0.0.1:9/x.png\">"
    dom, console = browse(tmp_path, page.replace("<main>", f"<main>{evil}"))

    assert "<title>gotcha" not in dom
    assert len([line for line in console if "Content Security Policy" in line]) == 2


@needs("chromium")
@pytest.mark.slow
def test_headings_for_assistive_technology(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(make_page([new_document(tmp_path)]))

    headings = find_headings(page, tmp_path)

    assert headings[0] == "test_three.py::test_one (call)"
    for expected in ("Open it", "Who waits for whom", "Notices"):
        assert expected in headings
    assert any(re.fullmatch(r"Threads \d+", heading) for heading in headings)
