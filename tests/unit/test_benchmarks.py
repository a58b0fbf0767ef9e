"""The tables, the picture and the page of the benchmark, from made-up numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from measure import Measurer, disk_need, extrapolate
from page import BEGIN, END, rewrite
from picture import draw
from results import (
    FORK,
    GCORE,
    GCORE_TAR,
    KERNEL,
    MEMORY,
    MEMORY_CORE,
    PLAIN,
    Cell,
    Overhead,
    Report,
    Sample,
    Series,
    Session,
    Spec,
    load,
)
from table import lines_of, quartiles, session_ratio

if TYPE_CHECKING:
    from pathlib import Path

SPEC = Spec(size_mib=16, threads=4, memory="mixed")
MIB = 1 << 20


def sample(pause_ms: float, archive_s: float | None = None, core_s: float | None = None) -> Sample:
    is_fork = archive_s is None and core_s is None
    return Sample(
        pause_s=pause_ms / 1000,
        core_s=core_s,
        archive_s=archive_s,
        archive_bytes=None if archive_s is None else 8 * MIB,
        disk_bytes=None if is_fork else 8 * MIB,
        memory_bytes=None if is_fork else 30 * MIB,
        cpu_s=None if is_fork else 0.5,
        own_cpu_s=0.001,
    )


def make_cell() -> Cell:
    return Cell(
        SPEC,
        {
            FORK: [sample(8), sample(9), sample(10)],
            MEMORY: [sample(11, 1.0), sample(10, 0.9), sample(14, 1.3)],
            KERNEL: [sample(20, 2.0)],
            PLAIN: [sample(20, 12.0, 0.5)],
            MEMORY_CORE: [sample(10, None, 0.25)],
        },
        {GCORE_TAR: "would take about 9.0 min, the limit is 3"},
    )


@pytest.fixture
def report() -> Report:
    growth = Series("threads", ["1 thread", "64 threads"], [make_cell(), make_cell()])
    growth.cells[1].samples[MEMORY] = [sample(22, 1.5)]
    overhead = Overhead(
        2001,
        {"none": [0.2, 0.21], "off": [0.2, 0.21], "armed": [0.22, 0.24]},
        {"none": [1.0, 1.0], "off": [1.01, 1.01], "armed": [1.04, 1.05]},
        {"none": [0.1, 0.1], "off": [0.104, 0.105]},
        [0.003, 0.004],
        2 * MIB,
    )
    session = Session(
        200, [1.0], [3.0], [0.5], [2.3], [10], [2], [50 * MIB], [55 * MIB], ["10 captured, 190 refused"]
    )
    return Report("compare.py --all", "2 processors", [make_cell()], [growth], overhead, session)


def test_json_and_back(tmp_path: Path, report: Report) -> None:
    report.save(tmp_path / "report.json")
    assert load(tmp_path / "report.json") == report
    parts = Report("compare.py", "2 processors", [make_cell()])
    parts.save(tmp_path / "parts.json")
    assert load(tmp_path / "parts.json") == parts


def test_table(report: Report) -> None:
    lines = list(lines_of(report))
    words = [line.split() for line in lines]
    assert any(row[:5] == ["memory", "10", "11", "14", "1"] for row in words), "pause: min median max ratio"
    assert any(row[:5] == ["bare", "fork", "8", "9", "10"] for row in words)
    assert any(row[-5:] == ["fork+SIGSEGV+tar", "0.5", "0.5", "0.5", "2"] for row in words), (
        "core: to memory (core)"
    )
    assert "NOT MEASURED: gcore+tar: would take about 9.0 min, the limit is 3" in lines
    (summary,) = (line for line in lines if line.startswith("memory: pause 1.22 x a bare fork"))
    assert "12 x sooner than fork+SIGSEGV+tar (its pause 1.82 x ours, our size 1 x its)" in summary
    assert ["64", "threads", "22", "22", "22", "2"] in words
    assert "  armed: start 25 (20..30) ms, a test 10 (10..10) us" in lines
    assert "  | 10 captured, 190 refused" in lines


def test_quartiles_leave_out_what_is_far_away() -> None:
    assert quartiles([3.0, 1.0, 2.0, 90.0, 4.0]) == "3 (2..4)"


def test_session_ratio(report: Report) -> None:
    assert report.session is not None
    assert session_ratio(report.session) == pytest.approx(3.0 / (1.2 * 1.0 + 1.8))


def test_picture() -> None:
    root = ElementTree.fromstring(draw(make_cell()))
    namespace = {"svg": "http://www.w3.org/2000/svg"}
    texts = [element.text for element in root.iterfind("svg:text", namespace)]
    assert texts.count(FORK) == 1, "only in the panel of the pause"
    assert texts.count(MEMORY) == texts.count(GCORE_TAR) == 4
    assert "1 (11 ms)" in texts
    assert "12" in texts, "archive after, relative to memory"
    assert texts.count("not measured") == 4
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for bar in root.iterfind("svg:rect", namespace):
        assert 0 < float(bar.get("x", "0")) + float(bar.attrib["width"]) <= width
        assert float(bar.get("y", "0")) + float(bar.attrib["height"]) <= height


def test_page(tmp_path: Path, report: Report) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    rewrite(page, report)
    once = page.read_text()
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once
    assert "| gcore+tar | not measured: would take about 9.0 min" in once
    assert "| 64 threads | 1 | 2 | 1.5 | 1 | 1 |" in once
    rewrite(page, report)
    assert page.read_text() == once
    page.write_text("no marks")
    with pytest.raises(ValueError, match="no place"):
        rewrite(page, report)


def test_what_takes_too_long_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    measurer = Measurer(tmp_path, limit_s=60)
    measurer.past[GCORE, 4, "mixed"] = measurer.past[MEMORY, 4, "mixed"] = {4: 30.0}
    assert measurer.reason_to_skip(GCORE, SPEC) == "would take about 2.0 min, the limit is 1"
    assert measurer.reason_to_skip(MEMORY, SPEC) is None, "ours are always measured"
    huge = Spec(size_mib=1 << 40, threads=1, memory="mixed")
    assert "of memory" in str(measurer.reason_to_skip(MEMORY, huge))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1 << 70}))
    assert "on the disk" in str(measurer.reason_to_skip(MEMORY, huge))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert measurer.reason_to_skip(GCORE, SPEC) == "gcore is not installed"


def test_extrapolate() -> None:
    assert extrapolate({}, 64) == 0
    assert extrapolate({16: 3.0}, 64) == 12.0
    assert extrapolate({16: 8.0, 64: 11.0}, 256) == 23.0
    assert extrapolate({64: 11.0}, 64) == 11.0


def test_disk_need() -> None:
    assert (
        disk_need(MEMORY, SPEC)
        < disk_need(KERNEL, SPEC)
        == disk_need(PLAIN, SPEC)
        < disk_need(GCORE_TAR, SPEC)
    )
    assert disk_need(FORK, SPEC) == 0


def test_overhead_is_that_of_the_same_round(report: Report) -> None:
    overhead = report.overhead
    assert overhead is not None
    assert overhead.start_ms("armed") == pytest.approx([20, 30])
    assert overhead.test_us("armed") == pytest.approx([10, 10])
