"""The samples of logs in the documentation are what the plugin prints, and show the culprit at once.

``GENCORE_WRITE_DOCS=1`` writes them anew, and the picture of the README.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kernel import wait_until
from process_state import processes_in
from terminal_picture import draw, strip_colours

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/what-the-log-says.md"
PICTURE = ROOT / "docs/images/hang.svg"
SUPPORT = str(ROOT / "tests/support")
COLUMNS = 104
TIMEOUT = "--gencore-timeout=2 -o gencore_exit_on_timeout=true"
ADDOPTS = "-p gencore -p xdist -p without_pystack -p no:cacheprovider --color=yes"
"""No plugin but those that are shown; without pystack, which not everybody has."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A test that fails, hangs or crashes, and what its reader looks for."""

    file: str
    options: str
    culprit: str
    """The line of source that explains it."""
    others: tuple[str, ...] = ()
    """Lines of other threads that are part of it."""
    verdict: str = ""
    """The verdict as an expression; empty if there is none."""

    @property
    def command(self) -> str:
        return " ".join(filter(None, ("pytest --gencore-on-fail", self.options, self.file)))


SAMPLES = {
    "failing": Sample("test_example.py", "", "assert sum(prices) == 85", ("while orders.get()",)),
    "gil": Sample(
        "test_gil.py",
        TIMEOUT,
        "return sum(itertools.repeat(1))",
        verdict=r"busy: 98 % CPU in sum\(\), test_gil\.py:10",
    ),
    "locks": Sample(
        "test_deadlock.py",
        TIMEOUT,
        "with ledger:",
        ("with accounts:",),
        r"deadlock: MainThread waits for lock 'ledger' held by refund \(test_deadlock\.py:21\), "
        r"which waits for lock 'accounts' held by MainThread \(test_deadlock\.py:13\)",
    ),
    "tasks": Sample(
        "test_tasks.py",
        TIMEOUT,
        "asyncio.run(serve())",
        verdict=r"asyncio: serve waits for task 'consumer' \(test_tasks\.py:10\), "
        r"which waits for queue\.get\(\) of an empty queue \('orders'\)",
    ),
    "silent": Sample(
        "test_silent.py",
        TIMEOUT,
        "client.recv(100)",
        verdict=r"waits for 127\.0\.0\.1:\d+.*, connected, nothing received .*",
    ),
    "child": Sample(
        "test_child.py",
        TIMEOUT,
        "child.wait()",
        verdict=r"waits for child \d+: .*, sleeping in (?:anon_)?pipe_write: its output pipe \(fd 1\) "
        r"is full and the test process does not read it",
    ),
    "crash": Sample("test_crash.py", "", "return ctypes.string_at(address)"),
}
TOGETHER = f"pytest -n 2 --gencore-on-fail {TIMEOUT}"
PICTURED = f"pytest -n 2 --gencore-on-fail {TIMEOUT} test_deadlock.py"
BLOCK = re.compile(r"(<!-- sample: (\S+) -->\n```\n)(.*?)(\n```\n)", re.DOTALL)
BLOCKS = [f"{name} {where}" for where in ("alone", "worker") for name in SAMPLES]
PROJECT_FRAME = re.compile(r'^  File "(test_\w+\.py)", line (\d+), in (\w+)$')


class Build:
    """A folder with the examples in which pytest is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "docs/examples", folder)

    def run(self, command: str) -> str:
        """Return what a terminal would show, but for this machine's paths and numbers."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "GENCORE"))
        }
        ended = subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=self.folder,
            env={
                **environment,
                "COLUMNS": str(COLUMNS),
                "PYTEST_ADDOPTS": ADDOPTS,
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTHONPATH": os.pathsep.join(filter(None, [SUPPORT, os.environ.get("PYTHONPATH")])),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=100,
            check=False,
        )
        wait_until(lambda: not processes_in(self.folder), "all collectors have ended", timeout=60)
        assert "INTERNALERROR" not in ended.stdout, ended.stdout
        return self._without_machine(ended.stdout)

    def _without_machine(self, text: str) -> str:
        """Replace paths, and numbers that differ from run to run."""
        paths = {
            str(self.folder): "/build",
            sysconfig.get_path("purelib"): "/build/.venv/lib/python3/site-packages",
            sys.prefix: "/build/.venv",
            sysconfig.get_path("stdlib"): "/usr/lib/python3",
        }
        for path, shown in paths.items():
            text = text.replace(os.path.realpath(path), shown).replace(path, shown)
        numbers: dict[str, str] = {}

        def renumber(match: re.Match[str]) -> str:
            number = numbers.setdefault(match[2], str(4101 + len(numbers)))
            return f"{match[1]}{number}"

        text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:5432", text)
        text = re.sub(r"(since it was made|received for|,) [\d.]+ s (ago|old|\()", r"\1 2 s \2", text)
        text = re.sub(r"busy: \d+ % CPU", "busy: 98 % CPU", text)
        text = re.sub(r"core_\d{8}\.\d{6}\.", "core_20261121.225921.", text)
        text = re.sub(r"((?:native id|process|child) |core_20261121\.225921\.)(\d+)", renumber, text)
        return re.sub(r"0x[0-9a-f]{12,}", "0x00007f0000000000", text)


def find_alone(text: str) -> str:
    """Return what we printed: the section of a report and the summary, or what a collector told."""
    lines = text.splitlines()
    section = next((at for at, line in enumerate(lines) if re.match(r"-+ gencore -+$", line)), None)
    if section is not None:
        end = next(at for at, line in enumerate(lines) if "short test summary info" in line)
        return "\n".join(lines[section:end])
    start = next(
        at
        for at, line in enumerate(lines)
        if re.match(r"gencore: (?:took|SIG|busy|deadlock|asyncio|waits)", line)
    )
    end = max(at for at, line in enumerate(lines) if line.startswith("gencore: "))
    return "\n".join(lines[start : end + 1])


def find_in_run(text: str, file: str) -> str:
    """Return what a controller printed about one test: the section of its report, or a dead worker's."""
    sections = re.split(r"^_{3,} .+ _{3,}$|^={3,} .+ ={3,}$", text, flags=re.MULTILINE)
    starts = {
        section: match.start()
        for section in sections
        if f"{file}::" in section and "\nThread " in section
        if (match := re.search(r"^(?:-+ gencore -+|worker 'gw\d+' crashed .*)$", section, re.MULTILINE))
    }
    ((report, start),) = starts.items()
    return re.sub(r"\bgw\d+", "gw0", report[start:].rstrip("\n"))


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


def produce(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    def run(name: str, command: str) -> str:
        return Build(tmp_path_factory.mktemp(name) / "build").run(command)

    jobs = {"together": TOGETHER, **{name: sample.command for name, sample in SAMPLES.items()}}
    if writes():
        jobs["picture"] = PICTURED
    with ThreadPoolExecutor(2) as pool:
        texts = dict(zip(jobs, pool.map(run, jobs, jobs.values()), strict=True))
    plain = {name: strip_colours(text) for name, text in texts.items()}
    blocks = {
        f"{name} alone": f"$ {SAMPLES[name].command}\n[...]\n{find_alone(plain[name])}" for name in SAMPLES
    }
    blocks |= {f"{name} worker": find_in_run(plain["together"], SAMPLES[name].file) for name in SAMPLES}
    if writes():
        write_page(blocks)
        PICTURE.write_text(draw(f"$ {PICTURED}\n{texts['picture']}", COLUMNS))
    return blocks


def writes() -> bool:
    return os.environ.get("GENCORE_WRITE_DOCS") == "1"


def write_page(blocks: dict[str, str]) -> None:
    def replace(match: re.Match[str]) -> str:
        return match[1] + blocks[match[2].replace("-", " ")] + match[4]

    PAGE.write_text(BLOCK.sub(replace, PAGE.read_text()))


def committed() -> Iterator[tuple[str, str]]:
    for match in BLOCK.finditer(PAGE.read_text()):
        yield match[2].replace("-", " "), match[3]


@pytest.mark.parametrize("name", BLOCKS)
def test_page_shows_what_is_printed(produced: dict[str, str], name: str) -> None:
    file = SAMPLES[name.split(maxsplit=1)[0]].file
    assert essence(dict(committed())[name], file) == essence(produced[name], file)


@pytest.mark.parametrize("name", BLOCKS)
def test_culprit_is_found_at_once(produced: dict[str, str], name: str) -> None:
    """The culprit's line is among the first 15 of our section."""
    sample = SAMPLES[name.split(maxsplit=1)[0]]
    section = produced[name].splitlines()
    if section[0].startswith("$ "):
        section = section[2:]
    assert any(line.strip() == sample.culprit for line in section[:15])


@pytest.mark.parametrize("name", BLOCKS)
def test_verdict(produced: dict[str, str], name: str) -> None:
    """It comes first: before the line that says what happened, where."""
    verdict = SAMPLES[name.split(maxsplit=1)[0]].verdict
    for block in (produced[name], dict(committed())[name]):
        lines = [line.removeprefix("gencore: ") for line in block.splitlines()]
        at = next(
            number
            for number, line in enumerate(lines)
            if re.match(r"failed: |took longer|SIG[A-Z]+ \(", line)
        )
        if verdict:
            assert re.fullmatch(verdict, lines[at - 1])
        else:
            assert not re.match("busy|deadlock|waits", lines[at - 1])


@pytest.mark.parametrize("name", BLOCKS)
def test_other_threads_are_shown(produced: dict[str, str], name: str) -> None:
    for other in SAMPLES[name.split(maxsplit=1)[0]].others:
        assert any(line.strip().startswith(other) for line in produced[name].splitlines()[:60])


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
