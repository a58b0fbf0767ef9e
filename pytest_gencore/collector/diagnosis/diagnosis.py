"""The diagnosis of one capture, from the snapshot to its texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.archive.manifest import DiagnosisFacts
from pytest_gencore.collector.diagnosis.answers import Answer, ask_children
from pytest_gencore.collector.diagnosis.forked_words import read_forked
from pytest_gencore.collector.diagnosis.graph import build_graph
from pytest_gencore.collector.diagnosis.parse import parse_facts
from pytest_gencore.collector.diagnosis.report import (
    FULL_LINES,
    LOG_LINES,
    keeper_lines,
    make_lines,
    to_json,
)
from pytest_gencore.collector.diagnosis.system.children import with_cpu
from pytest_gencore.collector.diagnosis.system.facts import read_system
from pytest_gencore.collector.diagnosis.verdict import find_verdict
from pytest_gencore.collector.diagnosis.words import Words
from pytest_gencore.request.model import AFTER_SESSION
from pytest_gencore.triggers import TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gencore.collector.diagnosis.facts import Facts, Place
    from pytest_gencore.collector.diagnosis.system.facts import SystemFacts
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot
    from pytest_gencore.texts import Folders

_PROBE_MILLISECONDS: Final = 1500
_CPU_SECONDS: Final = 0.5
_CPU_SECONDS_OF_A_CANCEL: Final = 0.25
"""For how long children are watched, at least: a process that is cancelled may not wait long."""


class Diagnosis:
    """What everything waits for, in the captured process."""

    def __init__(
        self,
        facts: Facts,
        system: SystemFacts | None,
        folders: Folders,
        *,
        is_hang: bool,
        busy: float | None = None,
        answers: Mapping[int, Answer] | None = None,
        is_over: bool = False,
        was_seen: bool = False,
    ) -> None:
        """Draw the conclusions; ``is_hang``, ``busy``, ``was_seen``: see ``find_verdict``.

        ``answers``: see ``ask_children``.

        ``is_over``: the process has nothing more to do, and should end.
        """
        self._is_over = is_over
        self._is_hang = is_hang
        self._was_looked_for = bool(facts.threads)
        self._graph = build_graph(facts, system)
        self._words = Words(self._graph, folders)
        self.answers = answers or {}
        """What children have said, by process."""
        self._forked = read_forked(self.answers, folders, self._words)
        self.verdict = find_verdict(self._graph, self._words, is_hang=is_hang, busy=busy, was_seen=was_seen)
        self.names = {
            thread.native_id: thread.name
            for thread in facts.threads.values()
            if thread.native_id is not None and thread.name
        }
        """The names that ``threading`` knows, by native id."""

    @property
    def stacks(self) -> dict[int, tuple[Place, ...]]:
        """The frames of threads that ``threading`` does not know, innermost first, by native id."""
        threads = self._graph.facts.threads.values()
        return {thread.native_id: thread.frames for thread in threads if thread.native_id and thread.frames}

    @property
    def task_files(self) -> list[str]:
        """The source files of the frames of tasks."""
        tasks = self._graph.facts.tasks.values()
        return list(dict.fromkeys(place.file for task in tasks for place in task.frames))

    @property
    def verdict_lines(self) -> list[str]:
        """The verdict as a list of lines: one, or none."""
        return [] if self.verdict is None else [self.verdict.text]

    def log_lines(self) -> list[str]:
        """Return the evidence for the log; of a failure only where there is a verdict."""
        if not (self._is_hang or self.verdict):
            return []
        return [
            *self._keeper_lines(),
            *make_lines(self._graph, self._words, LOG_LINES, self._forked, is_short=True),
        ]

    def full_lines(self) -> list[str]:
        """Return the evidence for ``stacks.txt``."""
        return [*self._keeper_lines(), *make_lines(self._graph, self._words, FULL_LINES, self._forked)]

    def _keeper_lines(self) -> list[str]:
        return keeper_lines(self._graph, self._words) if self._is_over else []

    def describe(self) -> DiagnosisFacts | None:
        """Return what the manifest tells; None if nothing was looked for."""
        if not self._was_looked_for:
            return None
        verdict = self.verdict
        return DiagnosisFacts(
            verdict=None if verdict is None else verdict.text,
            kind=None if verdict is None else verdict.kind,
            complete=self._graph.facts.is_complete,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the contents of ``diagnosis.json``."""
        forked = [{"pid": child.pid, **to_json(child.graph, child.words, None, [])} for child in self._forked]
        return {**to_json(self._graph, self._words, self.verdict, self.full_lines()), "forked": forked}


def read_diagnosis(handover: Handover, snapshot: Snapshot) -> Diagnosis:
    """Let Python look in a copy of the snapshot, at most 1.5 s; what it does not survive is missing.

    Not after a crash: its memory may be damaged. Raises ArchiveError if the snapshot is gone.
    """
    request = handover.context.request
    kind = TRIGGERS[request.trigger]
    system = read_system(handover, snapshot)
    answers: dict[int, Answer] = {}
    data = b""
    if not (kind.is_fatal or request.child_of):
        answers = ask_children(handover, system.children)
    if handover.probe_function and not kind.is_fatal:
        data = snapshot.probe(handover.probe_function, _PROBE_MILLISECONDS)
    if kind.is_hang and not request.child_of:
        over = _CPU_SECONDS_OF_A_CANCEL if request.trigger == "cancel" else _CPU_SECONDS
        system = system._replace(children=with_cpu(system.children, over))
    tids = {thread.tls + handover.ident_offset: thread.tid for thread in handover.threads if thread.tls}
    folders = handover.context.run.session.folders
    busy = handover.cpu_ns / handover.wall_ns if handover.wall_ns > 0 else None
    facts = parse_facts(data, tids)
    is_over = request.place.startswith(AFTER_SESSION)
    return Diagnosis(
        facts, system, folders, is_hang=kind.is_hang, busy=busy, answers=answers, is_over=is_over
    )
