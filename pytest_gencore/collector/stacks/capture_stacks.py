"""The stacks of a capture: first what Python itself knows, then, if it is installed, what pystack reads."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.collector.describe import describe_capture
from pytest_gencore.collector.diagnosis.diagnosis import read_diagnosis
from pytest_gencore.collector.source.stack_overflow import is_stack_overflow
from pytest_gencore.collector.stacks.child_stacks import ChildStacks
from pytest_gencore.collector.stacks.last_words import read_last_words
from pytest_gencore.collector.stacks.model import (
    Frame,
    PythonThread,
    find_missed,
    merge_threads,
    threads_of,
)
from pytest_gencore.collector.stacks.parsers import parse_faulthandler, parse_pystack
from pytest_gencore.collector.stacks.report import (
    HINT,
    TEXT_BYTES_LIMIT,
    cut_text,
    format_full,
    make_answer,
    order_threads,
)
from pytest_gencore.collector.stacks.sources import add_source_lines, find_traceback_files, gather_sources
from pytest_gencore.collector.stacks.stacks_json import make_stacks_file
from pytest_gencore.collector.stacks.trigger_text import describe_trigger
from pytest_gencore.run.files import DIAGNOSIS
from pytest_gencore.triggers import TRIGGERS
from pytest_gencore.unpatched import NO_LINK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_gencore.archive.stacks_file import StacksFile
    from pytest_gencore.collector.core.core_source import CoreSource
    from pytest_gencore.collector.diagnosis.diagnosis import Diagnosis
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot
    from pytest_gencore.collector.stacks.last_words import LastWords
    from pytest_gencore.collector.stacks.sources import SourceLimits, Sources

_CUT: Final = "..."
_CUT_NOTE_LENGTH: Final = 40
"""The line with which faulthandler ends after 100 threads: MAX_NTHREADS of CPython's traceback.c."""
_PYSTACK_FILTER: Final = 0x11
"""``coredump_filter`` of the core that pystack reads: anonymous private memory and ELF headers."""
_PYSTACK_CORE_LIMIT: Final = 256 << 20
"""Bytes of memory up to which native frames are worth a core of their own."""


class Stacks:
    """The threads of one capture, what it said last, and the texts made of them."""

    def __init__(self, handover: Handover, snapshot: Snapshot) -> None:
        """Read what the request or the snapshot's own Python says; takes some milliseconds, at most 1.5 s."""
        words, read = read_last_words(handover, snapshot), read_python_threads(handover, snapshot)
        self._take(handover, words, read, read_diagnosis(handover, snapshot))

    @classmethod
    def of(cls, handover: Handover, words: LastWords, read: ReadThreads, diagnosis: Diagnosis) -> Stacks:
        """Return those of a capture without a snapshot, as somebody else has read them."""
        stacks = cls.__new__(cls)
        stacks._take(handover, words, read, diagnosis)
        stacks.facts = stacks.facts._replace(is_living=True)
        stacks._has_pystack = True  # it could add nothing
        return stacks

    def _take(self, handover: Handover, words: LastWords, read: ReadThreads, diagnosis: Diagnosis) -> None:
        self.words = words
        overflow = is_stack_overflow(handover)
        self.facts = describe_capture(handover)._replace(is_stack_overflow=overflow, said=words.describe())
        self.notice = ""
        """Why they are less than they could be, for the manifest."""
        self._handover = handover
        self._has_pystack = False
        threads, self.unread = read
        self.diagnosis = diagnosis
        self._children = ChildStacks(self.diagnosis.answers, self.facts.folders)
        missed = find_missed(threads, self.diagnosis.stacks)
        self.unread = max(self.unread - len(missed), 0)
        threads = [*threads, *missed]
        if TRIGGERS[handover.context.request.trigger].is_only_told:  # by a thread of ours
            threads = [thread for thread in threads if thread.native_id != handover.tid]
        names = self.diagnosis.names
        threads = [thread._replace(name=names.get(thread.native_id or 0, thread.name)) for thread in threads]
        self.threads = add_source_lines(threads, self.facts.folders.rootdir)

    def add_pystack(self, source: CoreSource) -> bool:
        """Let pystack add locals and native frames; tell whether it has. Takes seconds, at most some ten."""
        pystack = self._handover.context.run.pystack
        if pystack is None or not TRIGGERS[self._handover.context.request.trigger].with_pystack:
            return False
        from pytest_gencore.collector.stacks.pystack_reader import find_program, read_stacks

        program = find_program(pystack)
        if program is None:
            return False
        is_sealed = bool(self._handover.context.run.recipients)
        path = None if is_sealed else self._handover.work_directory / "pystack.core"
        executable = self._handover.context.run.executable
        is_small = source.memory.private_size <= _PYSTACK_CORE_LIMIT
        core = source.build_core(_PYSTACK_FILTER) if is_small else None
        output = read_stacks(program, source.snapshot.pid, core, path, executable)
        self.notice = output.reason
        richer = parse_pystack(output.text)
        if not richer:
            return False
        self.threads = merge_threads(self.threads, add_source_lines(richer, self.facts.folders.rootdir))
        self._has_pystack = True
        self.unread = 0
        return True

    @property
    def has_frames(self) -> bool:
        """Whether the thread that crashed or ran the test has any."""
        threads = order_threads(self.facts, self._with_failure(self.threads))
        return bool(threads and threads[0].frames)

    @property
    def summary(self) -> str:
        """What led to the capture, and where; one line."""
        return describe_trigger(self.facts)

    @property
    def short_summary(self) -> str:
        """The same without command lines, as for logs that must not show what is in the archive."""
        child = "command line not shown" if self.facts.child else ""
        cancel = self.facts.cancel.partition(" ")[0]  # the name of the signal
        return describe_trigger(self.facts._replace(child=child, cancel=cancel))

    def make_answer(self, *, has_archive: bool) -> list[str]:
        """Return the lines for a log; all of them if there is no archive with the rest."""
        return make_answer(
            self.facts,
            self._with_failure(self.threads),
            unread=self.unread,
            verdict=self.diagnosis.verdict_lines,
            evidence=self.diagnosis.log_lines(),
            children=self._children.short_lines(),
            is_brief=has_archive and self._handover.context.run.session.is_brief,
        )

    def find_sources(self, failure_text: str | None, also: Iterable[str], limits: SourceLimits) -> Sources:
        """Return the source files that the stacks and the failure name, and those of ``also``."""
        text = failure_text or ""
        threads = self._with_failure(self.threads)
        return gather_sources(
            threads,
            self.facts.folders.rootdir,
            limits,
            also=[*find_traceback_files(text), *self.diagnosis.task_files, *also],
        )

    def format_text(self, answer: Sequence[str], failure: str | None, environment: str) -> str:
        """Return what stands beside the archive: answer, failure, stacks, environment; parts may be cut."""
        lines = list(answer)
        if failure is not None:
            shown = cut_text(failure, TEXT_BYTES_LIMIT // 2).rstrip("\n")
            lines += ["", "The failure, as pytest shows it:", shown]
        head = "\n".join([*lines, "", "All stacks:", ""])
        taken = len((head + environment).encode(errors="replace"))
        return head + cut_text(self.format_full(), TEXT_BYTES_LIMIT - taken - _CUT_NOTE_LENGTH) + environment

    def format_full(self) -> str:
        """Return the text of ``stacks.txt``."""
        text = format_full(
            self.facts,
            self.threads,
            unread=self.unread,
            verdict=self.diagnosis.verdict_lines,
            evidence=self.diagnosis.full_lines(),
            children=self._children.full_lines(),
        )
        return text if self._has_pystack else f"{text}\n{HINT}\n"

    def make_file(self) -> StacksFile:
        """Return what ``stacks.json`` holds; secrets are still in it."""
        threads = order_threads(self.facts, self.threads)
        own = next((thread for thread in self._with_failure(threads) if thread.is_current), None)
        failed = own.frames if own is not None and own not in threads else ()
        return make_stacks_file(
            self.facts.folders.rootdir, threads, failed, self._children.threads, unread=self.unread
        )

    def _with_failure(self, threads: list[PythonThread]) -> list[PythonThread]:
        """Give the thread of the test the stack of its failure: its own is unwound to pytest's by now."""
        frames = tuple(
            Frame(file=file, line=line, function=function)
            for file, line, function in self._handover.context.request.failure_frames
        )
        if not frames:
            return threads
        return add_source_lines(
            [thread._replace(frames=frames) if thread.is_current else thread for thread in threads],
            self.facts.folders.rootdir,
        )


class ReadThreads(NamedTuple):
    """What could be read of the Python threads."""

    threads: list[PythonThread]
    unread: int = 0
    """How many threads nobody looked at: faulthandler walks 100, the newest first."""


def read_python_threads(handover: Handover, snapshot: Snapshot) -> ReadThreads:
    """Return the Python threads, with native ids, whoever has captured; empty if nobody can tell.

    The capturing thread is among them whatever their number.
    """
    if not handover.context.by_handler:
        return ReadThreads(_identify_listed_threads(handover))
    text = _trace(handover, snapshot, handover.all_threads_signal) if handover.trace_function else ""
    if not text:  # Py_FatalError takes from faulthandler what it needs, before it aborts
        return ReadThreads(
            [thread._replace(is_read=False) for thread in _with_capturing_thread([], handover)]
        )
    threads = identify_threads(text, handover)
    is_cut = _CUT in text.splitlines()
    if not any(thread.is_current for thread in threads) and handover.own_thread_signal:
        own = identify_threads(_trace(handover, snapshot, handover.own_thread_signal), handover)
        threads = _with_capturing_thread([*own, *threads], handover)
    elif not is_cut:
        threads = _with_capturing_thread(threads, handover)
    seen = {thread.native_id for thread in threads}
    unread = sum(thread.tid not in seen for thread in handover.threads) if is_cut else 0
    return ReadThreads(threads, unread)


def _trace(handover: Handover, snapshot: Snapshot, signal_number: int) -> str:
    return snapshot.trace(handover.trace_function, signal_number).decode(errors="replace")


def identify_threads(text: str, handover: Handover) -> list[PythonThread]:
    """Parse faulthandler's text; threads get the ids and names that the hand-over knows."""
    native_ids = _find_native_ids(handover)
    names = {ident: name for ident, tid in native_ids.items() if (name := _name_of(tid, handover))}
    return [
        thread._replace(native_id=handover.tid, name=thread.name or _name_of(handover.tid, handover))
        if thread.is_current
        else thread
        for thread in parse_faulthandler(text, native_ids=native_ids, names=names)
    ]


def _identify_listed_threads(handover: Handover) -> list[PythonThread]:
    """Return the threads that the process listed; its ``threading`` knows native ids only of its own."""
    native_ids = _find_native_ids(handover)
    identified = []
    for thread in threads_of(handover.context.stacks):
        native_id = handover.tid if thread.is_current else native_ids.get(thread.ident or 0, thread.native_id)
        name = thread.name or (_name_of(native_id, handover) if native_id else None)
        identified.append(thread._replace(native_id=native_id, name=name))
    return identified


def _find_native_ids(handover: Handover) -> dict[int, int]:
    """Return the native id of each ident, as far as the hand-over knows the thread pointers."""
    return {thread.tls + handover.ident_offset: thread.tid for thread in handover.threads if thread.tls}


def _name_of(tid: int, handover: Handover) -> str | None:
    """Return a name that tells one thread from the others; threads begin with that of the process."""
    if tid == handover.pid:
        return "MainThread"
    names: Mapping[int, str] = {thread.tid: thread.name for thread in handover.threads}
    name = names.get(tid)
    return name if name != names.get(handover.pid) else None


def _with_capturing_thread(threads: list[PythonThread], handover: Handover) -> list[PythonThread]:
    """Add the thread that captured if it is none of Python's."""
    if any(thread.native_id == handover.tid for thread in threads):
        return threads
    name = _name_of(handover.tid, handover)
    return [PythonThread(name, handover.tid, None, (), is_current=True), *threads]


def write_answer(handover: Handover, lines: list[str]) -> bool:
    """Write the answer into the run's folder, in one step; tell whether it is there."""
    path = handover.run_folder / DIAGNOSIS.named(handover.name)
    temporary = handover.work_directory / "answer"
    with contextlib.suppress(OSError):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_LINK, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write("\n".join(lines) + "\n")
        temporary.replace(path)
        return True
    return False
