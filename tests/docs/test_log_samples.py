"""The samples of logs in the documentation are what the plugin prints, and show the culprit at once.

``GENCORE_WRITE_DOCS=1`` writes them anew, and the pictures of a terminal and of pages in Chromium.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from browser import take_picture
from capabilities import needs
from log_samples import COLUMNS, ROOT, SAMPLES, TIMEOUT, Build, find_alone, find_in_run
from terminal_picture import draw, strip_colours

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("log samples")  # all are made once

PAGE = ROOT / "docs/explanation/what-the-log-says.md"
PICTURE = ROOT / "docs/images/hang.svg"
TOGETHER = f"pytest -n 2 --gencore-on-fail {TIMEOUT}"
PICTURED = f"pytest -n 2 --gencore-on-fail {TIMEOUT} test_deadlock.py"
BLOCK = re.compile(r"(<!-- sample: (\S+) -->\n```\n)(.*?)(\n```\n)", re.DOTALL)
BLOCKS = [f"{name} {where}" for where in ("alone", "worker") for name in SAMPLES]
SHOWN = ("locks", "tasks", "gil", "crash")
"""Whose pages are in the documentation as pictures."""
QUESTION = re.compile(r"^\| ([^|]+\?) \| ([\w-]+) \| (yes|no): `(.+?)`", re.MULTILINE)
PROJECT_FRAME = re.compile(r'^  File "(test_\w+\.py)", line (\d+), in (\w+)$')


def essence(block: str, file: str) -> tuple[str, list[tuple[str, ...]], set[tuple[str, ...]]]:
    """Return what must not change of a sample: the trigger, the culprit's frames, those of other threads."""
    lines = block.splitlines()
    trigger = next(line for line in lines if re.search(r"(?:failed: |took longer|SIG[A-Z]+ \()", line))
    trigger = re.sub(r"\d{4,}", "N", trigger.removeprefix("gencore: "))
    culprit: list[tuple[str, ...]] = []
    others: set[tuple[str, ...]] = set()
    threads = 0
    for line, source in zip(lines, [*lines[1:], ""], strict=True):
        threads += bool(re.match(r"(?:Thread |\d+ threads)", line))
        match = PROJECT_FRAME.match(line)
        if match is None or match[1] != file:
            continue
        if threads == 1:
            culprit.append((*match.groups(), source.strip()))
        else:
            others.add((*match.groups(), source.strip()))
    return trigger, culprit, others


@pytest.fixture(scope="module")
def produced(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return all blocks; two runs at a time."""

    try:
        return produce(tmp_path_factory)
    except (AssertionError, StopIteration, TimeoutError, ValueError):
        return produce(tmp_path_factory)  # a machine under load: tests that should fail reached the deadline


@pytest.fixture(scope="module")
def produced_with_stacks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the same blocks where pystack is used."""
    return produce(tmp_path_factory, with_stacks=True)


def produce(tmp_path_factory: pytest.TempPathFactory, *, with_stacks: bool = False) -> dict[str, str]:
    def run(folder: Path, command: str) -> str:
        return Build(folder / "build").run(command, with_stacks=with_stacks)

    jobs = {"together": TOGETHER, **{name: sample.command for name, sample in SAMPLES.items()}}
    is_for_docs = writes() and not with_stacks
    if is_for_docs:
        jobs["picture"] = PICTURED
    folders = [tmp_path_factory.mktemp(name) for name in jobs]
    with ThreadPoolExecutor(2) as pool:
        texts = dict(zip(jobs, pool.map(run, folders, jobs.values()), strict=True))
    plain = {name: strip_colours(text) for name, text in texts.items()}
    blocks = {
        f"{name} alone": f"$ {SAMPLES[name].command}\n[...]\n{find_alone(plain[name])}" for name in SAMPLES
    }
    blocks |= {f"{name} worker": find_in_run(plain["together"], SAMPLES[name].file) for name in SAMPLES}
    if is_for_docs:
        write_page(blocks)
        for name, folder in zip(jobs, folders, strict=True):
            if name in SHOWN:
                draw_page(name, folder)
        PICTURE.write_text(draw(f"$ {PICTURED}\n{texts['picture']}", COLUMNS))
    return blocks


def writes() -> bool:
    return os.environ.get("GENCORE_WRITE_DOCS") == "1"


def draw_page(name: str, folder: Path) -> None:
    """Draw the first screen of the page that ``gencore report`` makes of the sample's archive."""
    (archive,) = (folder / "build/gencore-artifacts").glob("core_*.tar.gz")
    page = folder / "page.html"
    command = [sys.executable, "-m", "pytest_gencore", "report", "-o", str(page), str(archive)]
    subprocess.run(command, check=True, timeout=60)
    take_picture(page, ROOT / f"docs/images/page-{name}.png", (1100, 760), folder)


def write_page(blocks: dict[str, str]) -> None:
    def replace(match: re.Match[str]) -> str:
        return match[1] + blocks[match[2].replace("-", " ")] + match[4]

    PAGE.write_text(BLOCK.sub(replace, PAGE.read_text()))


def committed() -> Iterator[tuple[str, str]]:
    for match in BLOCK.finditer(PAGE.read_text()):
        yield match[2].replace("-", " "), match[3]


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_page_shows_what_is_printed(produced: dict[str, str], name: str) -> None:
    file = SAMPLES[name.split(maxsplit=1)[0]].file
    assert essence(dict(committed())[name], file) == essence(produced[name], file)


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_culprit_is_found_at_once(produced: dict[str, str], name: str) -> None:
    """The culprit's line is among the first 15 of our section."""
    sample = SAMPLES[name.split(maxsplit=1)[0]]
    section = produced[name].splitlines()
    if section[0].startswith("$ "):
        section = section[2:]
    assert any(line.strip() == sample.culprit for line in section[:15])


@pytest.mark.slow
@pytest.mark.field
@pytest.mark.parametrize("name", BLOCKS)
def test_verdict(produced: dict[str, str], name: str) -> None:
    assert_verdict(name, produced[name])


@pytest.mark.slow
@needs("pystack")
@pytest.mark.field
@pytest.mark.parametrize("name", BLOCKS)
def test_verdict_with_stacks(produced_with_stacks: dict[str, str], name: str) -> None:
    assert_verdict(name, produced_with_stacks[name])


@pytest.mark.parametrize("name", BLOCKS)
def test_verdict_on_the_page(name: str) -> None:
    assert_verdict(name, dict(committed())[name])


def assert_verdict(name: str, block: str) -> None:
    """It comes first: before the line that says what happened, where."""
    verdict = SAMPLES[name.split(maxsplit=1)[0]].verdict
    lines = [line.removeprefix("gencore: ") for line in block.splitlines()]
    at = next(
        number for number, line in enumerate(lines) if re.match(r"failed: |took longer|SIG[A-Z]+ \(", line)
    )
    if verdict:
        assert re.fullmatch(verdict, lines[at - 1])
    else:
        assert not re.match("asyncio|busy|deadlock|waits", lines[at - 1])


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_other_threads_are_shown(produced: dict[str, str], name: str) -> None:
    for other in SAMPLES[name.split(maxsplit=1)[0]].others:
        assert any(line.strip().startswith(other) for line in produced[name].splitlines()[:60])


def test_ten_questions() -> None:
    """What the page says to be answered by the first 15 lines stands in them, and nothing else does."""
    rows = QUESTION.findall(PAGE.read_text())
    for question, sample, is_answered, words in rows:
        lines = dict(committed())[sample.replace("-", " ")].removeprefix("$ ").splitlines()
        start = 2 if lines[1] == "[...]" else 0
        first = "\n".join(lines[start : start + 15])
        assert (words in first) == (is_answered == "yes"), question
    assert len(rows) == 10
    assert sum(is_answered == "yes" for _, _, is_answered, _ in rows) >= 8


def test_page_has_all_samples_and_nothing_of_a_machine() -> None:
    blocks = dict(committed())
    assert list(blocks) == BLOCKS
    for text in blocks.values():
        assert not re.search(r"/(?:tmp|home|root|work|usr/local|opt)/", text)


def test_picture() -> None:
    """The picture is that of the hang: the command, the culprit and the other thread are in it."""
    rows = ["".join(row.itertext()) for row in ET.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text")]
    text = "\n".join(rows)
    assert rows[0] == f"$ {PICTURED}"
    trigger = "took longer than 2 s (timeout of gencore): test_deadlock.py::test_pay_while_refunding"
    assert trigger in text.replace("\n", "")
    assert "    with ledger:" in rows
    assert "    with accounts:" in rows
    assert not re.search(r"/(?:tmp|home|root|work|usr/local|opt)/", text)
