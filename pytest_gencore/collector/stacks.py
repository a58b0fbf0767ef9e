"""The stacks of a capture: first what Python itself knows, then, if it is installed, what pystack reads."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.answer import HINT, format_full, make_answer
from pytest_gencore.collector.memory_method import build_core
from pytest_gencore.collector.occasion import describe_capture, is_by_handler
from pytest_gencore.collector.procfs import read_process_facts
from pytest_gencore.collector.pystack_reader import find_command, read_stacks
from pytest_gencore.collector.python_stacks import (
    Frame,
    PythonThread,
    merge_threads,
    parse_request_stacks,
)
from pytest_gencore.collector.sources import add_source_lines, find_traceback_files, gather_sources
from pytest_gencore.collector.stack_parsers import parse_faulthandler, parse_pystack
from pytest_gencore.collector.thread_notes import build_core_notes
from pytest_gencore.corefile.machines import machine_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_gencore.collector.cores import CoreStream
    from pytest_gencore.collector.handover import Handover
    from pytest_gencore.collector.memory import Memory
    from pytest_gencore.collector.snapshot import Snapshot
    from pytest_gencore.collector.sources import Sources

_PYSTACK_FILTER: Final = 0x11
"""``coredump_filter`` of the core that pystack reads: anonymous private memory and ELF headers."""
_PYSTACK_CORE_LIMIT: Final = 256 << 20
"""Bytes of memory up to which native frames are worth a core of their own."""


class Stacks:
    """The threads of one capture, and the texts made of them."""

    def __init__(self, handover: Handover, snapshot: Snapshot) -> None:
        """Read what the request or the snapshot's own Python says; takes some milliseconds."""
        self.facts = describe_capture(handover)
        self.notice = ""
        """Why they are less than they could be, for the manifest."""
        self._handover = handover
        self._snapshot = snapshot
        self._has_pystack = False
        threads = read_python_threads(handover, snapshot)
        self.threads = add_source_lines(threads, self.facts.rootdir)

    def add_pystack(self, memory: Memory) -> bool:
        """Let pystack add locals and native frames; tell whether it has. Takes seconds, at most some ten."""
        command = find_command(self._handover.request.get("pystack"))
        if command is None or self._handover.request["trigger"] == "request":
            return False
        path = self._handover.work_directory / "pystack.core"
        executable = self._handover.request["executable"]
        output = read_stacks(command, self._snapshot.pid, self._small_core(memory), path, executable)
        self.notice = output.reason
        richer = parse_pystack(output.text)
        if not richer:
            return False
        self.threads = merge_threads(self.threads, add_source_lines(richer, self.facts.rootdir))
        self._has_pystack = True
        return True

    def make_answer(self) -> list[str]:
        """Return the lines for a log."""
        return make_answer(self.facts, self._with_failure(self.threads))

    def find_sources(self, also: Iterable[str]) -> Sources:
        """Return the source files that the stacks and the failure name, and those of ``also``."""
        text = self._handover.request["failure_text"] or ""
        threads = self._with_failure(self.threads)
        return gather_sources(threads, self.facts.rootdir, also=[*find_traceback_files(text), *also])

    def format_full(self) -> str:
        """Return the text of ``stacks.txt``."""
        text = format_full(self.facts, self.threads)
        return text if self._has_pystack else f"{text}\n{HINT}\n"

    def _with_failure(self, threads: list[PythonThread]) -> list[PythonThread]:
        """Give the thread of the test the stack of its failure: its own is unwound to pytest's by now."""
        frames = tuple(
            Frame(file=str(file), line=int(line), function=str(function))
            for file, line, function in self._handover.request.get("failure_frames") or ()
        )
        if not frames:
            return threads
        return add_source_lines(
            [replace(thread, frames=frames) if thread.is_current else thread for thread in threads],
            self.facts.rootdir,
        )

    def _small_core(self, memory: Memory) -> CoreStream | None:
        """Return a core for pystack; None if there can be none."""
        handover, snapshot = self._handover, self._snapshot
        machine = machine_for(handover.request["machine"])
        if machine is None or memory.private_size > _PYSTACK_CORE_LIMIT:
            return None
        facts = read_process_facts(handover.pid, snapshot.pid)
        notes = build_core_notes(
            handover, machine, facts, snapshot, auxv=memory.auxv, mappings=memory.mappings
        )
        return build_core(snapshot, machine, memory.mappings, notes, _PYSTACK_FILTER, memory.link_map.ranges)


def read_python_threads(handover: Handover, snapshot: Snapshot) -> list[PythonThread]:
    """Return the Python threads, with native ids, whoever has captured; empty if nobody can tell."""
    if not is_by_handler(handover):
        return parse_request_stacks(handover.request["stacks"])
    if not handover.trace_function:
        return _with_capturing_thread([], handover)
    text = snapshot.trace(handover.trace_function, handover.trace_signal).decode(errors="replace")
    return _with_capturing_thread(identify_threads(text, handover), handover)


def identify_threads(text: str, handover: Handover) -> list[PythonThread]:
    """Parse faulthandler's text; threads get the ids and names that the hand-over knows."""
    current = next((thread.ident for thread in parse_faulthandler(text) if thread.is_current), None)
    records = {thread.tid: thread for thread in handover.threads}
    capturing = records.get(handover.tid)
    # pthread_self(3) lies at a fixed distance from the thread pointer, 0 on x86-64.
    distance = current - capturing.tls if current and capturing and capturing.tls else 0
    native_ids = {record.tls + distance: record.tid for record in records.values() if record.tls}
    names = {ident: name for ident, tid in native_ids.items() if (name := _name_of(tid, handover))}
    return parse_faulthandler(text, native_ids=native_ids, names=names)


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
    path = handover.run_folder / f"{handover.name}.txt"
    temporary = handover.work_directory / "answer"
    with contextlib.suppress(OSError):
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write("\n".join(lines) + "\n")
        temporary.replace(path)
        return True
    return False
