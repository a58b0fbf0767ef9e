"""The captured process's notes of its tests, for those who speak for it: lines of JSON in its memory."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


JOURNAL_LIMIT: Final = 32 << 20
"""Bytes that are read; tests noted behind them are missing in the file."""
OUTCOMES: Final = frozenset({"passed", "failed", "error", "skipped"})


@dataclass(frozen=True, slots=True)
class Suite:
    """What pytest would write about the run."""

    name: str = "pytest"
    family: str = "xunit2"
    timestamp: str = ""
    """ISO 8601: when the run began."""
    hostname: str = ""
    prefix: str = ""
    """Of all class names."""


@dataclass(frozen=True, slots=True)
class Case:
    """A test that was finished, or the one that was running."""

    classname: str
    name: str
    file: str = ""
    line: int | None = None
    seconds: float = 0.0
    outcome: str = "passed"
    message: str = ""
    text: str = ""
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed report that pytest shows when the run ends."""

    nodeid: str
    phase: str
    case: Case


class Worker(NamedTuple):
    """A worker of pytest-xdist on this machine."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class Journal:
    """The notes, read anew by each pass: they may be long."""

    data: bytes
    suite: Suite | None = None
    """None if pytest writes no junit file."""
    running: tuple[Case, ...] = ()
    """Tests that have begun and not ended; a controller has one for each worker."""
    workers: tuple[Worker, ...] = ()
    """Of a controller: those that are there."""
    is_finished: bool = False
    """Whether pytest has written the file itself."""

    def finished_cases(self) -> Iterator[Case]:
        """Yield the finished tests, in their order."""
        for note in _notes(self.data):
            if is_case(note):
                yield _case(note)

    def failures(self) -> Iterator[Failure]:
        """Yield the failed reports, in their order."""
        for note in _notes(self.data):
            failure = note.get("failed")
            if isinstance(failure, dict):
                yield Failure(_text(failure.get("nodeid")), _text(failure.get("phase")), _case(failure))


def parse_journal(data: bytes) -> Journal:
    """Find the suite, the running tests, the workers and the end.

    Lines that are no notes are passed over.
    """
    suite: Suite | None = None
    running: dict[tuple[str, str], Case] = {}
    workers: dict[str, Worker] = {}
    is_finished = False
    for note in _notes(data):
        if isinstance(note.get("junit"), dict):
            suite = _suite(note["junit"])
        elif isinstance(note.get("started"), dict):
            started = _case(note["started"])
            running[started.classname, started.name] = started
        elif isinstance(note.get("worker"), dict):
            _note_worker(note["worker"], workers)
        elif note.get("finished") is True:
            is_finished = True
        elif is_case(note):
            ended = _case(note)
            running.pop((ended.classname, ended.name), None)
    return Journal(data, suite, tuple(running.values()), tuple(workers.values()), is_finished)


def _note_worker(facts: dict[str, Any], workers: dict[str, Worker]) -> None:
    name, pid = _text(facts.get("name")), facts.get("pid")
    if isinstance(pid, int) and pid > 0:
        workers[name] = Worker(name, pid)
    else:
        workers.pop(name, None)


def is_case(note: dict[str, Any]) -> bool:
    """Whether a note tells of a finished test."""
    return note.get("outcome") in OUTCOMES and "name" in note


def _notes(data: bytes) -> Iterator[dict[str, Any]]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        try:
            note = json.loads(data[start:end])
        except (ValueError, RecursionError):
            note = None
        if isinstance(note, dict):
            yield note
        start = end + 1


def _suite(facts: dict[str, Any]) -> Suite:
    return Suite(
        name=_text(facts.get("suite_name")) or "pytest",
        family=_text(facts.get("family")) or "xunit2",
        timestamp=_text(facts.get("timestamp")),
        hostname=_text(facts.get("hostname")),
        prefix=_text(facts.get("prefix")),
    )


def _case(facts: dict[str, Any]) -> Case:
    seconds, line = facts.get("time"), facts.get("line")
    properties = facts.get("properties")
    return Case(
        classname=_text(facts.get("classname")),
        name=_text(facts.get("name")) or _text(facts.get("nodeid")),
        file=_text(facts.get("file")),
        line=line if isinstance(line, int) else None,
        seconds=float(seconds) if isinstance(seconds, (int, float)) and math.isfinite(seconds) else 0.0,
        outcome=_text(facts.get("outcome")) or "passed",
        message=_text(facts.get("message")),
        text=_text(facts.get("text")),
        properties=tuple(
            (str(pair[0]), str(pair[1]))
            for pair in (properties if isinstance(properties, list) else [])
            if isinstance(pair, list) and len(pair) == 2
        ),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
