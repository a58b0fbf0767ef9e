"""Write the junit file that pytest cannot write any more: the finished tests, and the captured one as error.

The structure is that of pytest's own ``_pytest/junitxml.py``, so that consumers see no difference.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import stat
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.junit import PROPERTY, URL_PROPERTY
from pytest_gencore.junit.common import escape, make_tag, replace_file
from pytest_gencore.junit.journal import Case, Journal, Suite
from pytest_gencore.run.concurrency import lock_patiently
from pytest_gencore.run.files import JUNIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_RESULTS: Final = {"failed": "failure", "error": "error", "skipped": "skipped"}


class WorkerVerdict(NamedTuple):
    """What a worker said of its test."""

    summary: str
    text: str
    archive: Path | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of the captured test."""

    nodeid: str | None
    summary: str
    text: str
    """The answer, of several lines, and what came of the archive."""
    archive: Path | None
    """None if there is none."""
    started_ns: int
    """Wall clock time of the capture."""
    base: str | None = None
    """Folder to which the consumer of the file wants paths relative; None: absolute."""
    workers: Mapping[tuple[str, str], WorkerVerdict] = dataclasses.field(default_factory=dict)
    """Of a controller: what is to be said of the tests of its workers, by class name and name."""
    have_all_answered: bool = False
    """Of a controller: whether no other test ran; what it knows of them can be a little old."""
    url: str = ""
    """Where the archive is, or will be, in the store; empty if it is not there."""


def write_junit(
    path: Path, run_folder: Path, journal: Journal, verdict: Verdict, *, clean: Callable[[str], str] = str
) -> bool:
    """Write the file in one step; tell whether it was written. Raises OSError.

    ``clean`` takes secrets out of texts, each of a test or of what is around the tests.

    Not over a file that pytest, or the collector of a later capture, has written meanwhile; nor over what is
    no regular file.
    """
    if journal.is_finished or journal.suite is None:
        return False
    path = Path(os.path.realpath(path))
    with _exclusive_memory(run_folder / JUNIT.named()) as memory:
        written = _recall(memory)
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or not _may_replace(status, written, verdict.started_ns):
                return False
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        status = replace_file(path, map(clean, make_junit(journal, journal.suite, verdict)))
        facts = {"started": verdict.started_ns, "inode": status.st_ino, "mtime": status.st_mtime_ns}
        memory.seek(0)
        memory.truncate()
        memory.write(json.dumps(facts))
    return True


def _may_replace(status: os.stat_result, written: dict[str, int], started_ns: int) -> bool:
    """Tell whether a file is older than the capture, or of a collector whose capture was not later."""
    if written.get("inode") == status.st_ino and written.get("mtime") == status.st_mtime_ns:
        return written.get("started", 0) <= started_ns
    return status.st_mtime_ns < started_ns


@contextlib.contextmanager
def _exclusive_memory(path: Path) -> Iterator[IO[str]]:
    """Open the file in which collectors remember what they wrote, one at a time."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "r+") as file:
        lock_patiently(file.fileno(), path)
        yield file


def _recall(memory: IO[str]) -> dict[str, int]:
    try:
        facts = json.loads(memory.read())
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def make_junit(journal: Journal, suite: Suite, verdict: Verdict) -> Iterator[str]:
    """Yield the text of the file; the finished tests are read twice, as their number comes first.

    A captured test that had failed before has two entries, as in pytest's own file.
    """
    is_running = bool(journal.running)
    captured = _find_captured(journal, verdict)
    failures = [f.case for f in journal.failures() if is_running and f.nodeid == verdict.nodeid]
    counts = dict.fromkeys(("error", "failed", "skipped"), 0)
    tests = len(captured)
    for case in itertools.chain(journal.finished_cases(), failures):
        tests += 1
        if case.outcome in counts:
            counts[case.outcome] += 1
    element = ET.Element(
        "testsuite",
        {
            "name": escape(suite.name),
            "errors": str(counts["error"] + len(captured)),
            "failures": str(counts["failed"]),
            "skipped": str(counts["skipped"]),
            "tests": str(tests),
            "time": f"{_seconds_of(suite, verdict.started_ns):.3f}",
            "timestamp": escape(suite.timestamp) or _as_timestamp(verdict.started_ns),
            "hostname": escape(suite.hostname),
        },
    )
    head, _, tail = ET.tostring(element, encoding="unicode", short_empty_elements=False).partition("><")
    yield f'<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests">{head}>'
    for case in itertools.chain(journal.finished_cases(), failures):
        yield ET.tostring(_make_case(case, suite), encoding="unicode")
    for case in captured:
        yield ET.tostring(_make_captured(case, suite, verdict), encoding="unicode")
    yield f"<{tail}</testsuites>"


def _find_captured(journal: Journal, verdict: Verdict) -> list[Case]:
    """Return the tests that were running; without one the run itself, as pytest names internal errors."""
    known = {(case.classname, case.name): case for case in journal.running}
    running = [known.pop(names, Case(*names)) for names in verdict.workers]
    if not verdict.have_all_answered:
        running += known.values()
    return running or [Case(classname="pytest", name="internal")]


def _make_case(case: Case, suite: Suite) -> ET.Element:
    element = _new_case(case, suite)
    _add_properties(element, case.properties)
    tag = _RESULTS.get(case.outcome)
    if tag is not None:
        result = ET.SubElement(element, tag, {"message": escape(case.message)})
        if tag == "skipped":
            result.set("type", "pytest.skip")
        result.text = escape(case.text)
    return element


def _make_captured(running: Case, suite: Suite, verdict: Verdict) -> ET.Element:
    element = _new_case(running, suite)
    usual = WorkerVerdict(verdict.summary, verdict.text, verdict.archive)
    summary, text, archive = verdict.workers.get((running.classname, running.name), usual)
    shown = str(archive) if archive is not None else ""
    ours = (
        [(PROPERTY, shown), (URL_PROPERTY, verdict.url)]
        if archive == verdict.archive
        else [(PROPERTY, shown)]
    )
    _add_properties(element, [*running.properties, *(entry for entry in ours if entry[1])])
    error = ET.SubElement(element, "error", {"message": escape(summary)})
    error.text = escape(text)
    if archive is not None:
        tag = make_tag(archive, verdict.base)
        if tag is not None:
            ET.SubElement(element, "system-out").text = tag
    return element


def _new_case(case: Case, suite: Suite) -> ET.Element:
    classname = ".".join(part for part in (suite.prefix, case.classname) if part)
    attributes = {"classname": escape(classname), "name": escape(case.name)}
    if suite.family in ("xunit1", "legacy"):
        if case.file:
            attributes["file"] = escape(case.file)
        if case.line is not None:
            attributes["line"] = str(case.line)
    attributes["time"] = f"{case.seconds:.3f}"
    return ET.Element("testcase", attributes)


def _add_properties(element: ET.Element, properties: Sequence[tuple[str, str]]) -> None:
    if properties:
        parent = ET.SubElement(element, "properties")
        for name, value in properties:
            ET.SubElement(parent, "property", {"name": escape(name), "value": escape(value)})


def _seconds_of(suite: Suite, started_ns: int) -> float:
    """Return how long the run had taken when it was captured, 0 if nobody knows."""
    try:
        began = datetime.datetime.fromisoformat(suite.timestamp).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
    return max(0.0, started_ns / 1e9 - began)


def _as_timestamp(nanoseconds: int) -> str:
    return datetime.datetime.fromtimestamp(nanoseconds / 1e9, datetime.timezone.utc).isoformat()
