"""What the capturing process hands over: the record and its followers in ``pytest_gencore.protocol``."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.errors import ArchiveError
from pytest_gencore.protocol import MAGIC, RECORD, THREAD, Phase, ThreadState
from pytest_gencore.request.context import CaptureContext, decode_context
from pytest_gencore.run.pinned import pin

if TYPE_CHECKING:
    from pathlib import Path

_SIGINFO_HEAD = struct.Struct("<iii4xQ")
"""``si_signo``, ``si_errno``, ``si_code``, ``si_addr`` of sigaction(2)."""
_SIGINFO_SENT = struct.Struct("<16xiIi")
"""``si_pid``, ``si_uid``, ``si_int`` of a signal that a process sent."""


class ThreadRecord(NamedTuple):
    """One thread of the captured process."""

    tid: int
    state: ThreadState
    name: str
    fp_address: int
    """Where its signal frame has the floating point area, 0 if nowhere."""
    fp_size: int
    tls: int
    blocked: int
    """Signals it blocks, signal 1 in bit 0."""
    registers: tuple[int, ...]

    @property
    def reached(self) -> bool:
        """Whether the registers are its own at the time of the snapshot."""
        return self.state in (ThreadState.STOPPED, ThreadState.CALLING)


class SignalInfo(NamedTuple):
    """The signal behind a capture."""

    number: int
    code: int
    """``si_code`` of sigaction(2)."""
    address: int
    """``si_addr``; only a fault has one."""
    sender_pid: int
    """``si_pid``; only one that a process sent has one: 0 from outside of the PID namespace."""
    sender_uid: int
    """``si_uid``, likewise."""
    value: int
    """``si_int``; only one that was queued has one."""


class Handover(NamedTuple):
    """Everything the collector is told."""

    name: str
    """Of the archive, without ``.tar.gz``."""
    pid: int
    tid: int
    snapshot_pid: int
    stop_signal: int
    """The real-time signal that stopped the threads, 0 if they were not stopped."""
    core_filter: int
    started_ns: int
    """Wall clock time of the capture."""
    stop_ns: int
    snapshot_ns: int
    pause_ns: int
    stopped_at_ns: int
    """``time.monotonic_ns()`` when the threads were asked to stop."""
    hold_ns: int
    """They stand until the collector has ended, at most that long; 0: released after ``pause_ns``."""
    trace_function: int
    """Address of what writes Python stacks, called with one of the next signals; 0 if there is nothing."""
    all_threads_signal: int
    """It writes those of 100 threads at most, the newest first."""
    own_thread_signal: int
    """It writes that of the capturing thread alone; 0: it cannot."""
    probe_function: int
    """Address of what runs Python in a copy of the snapshot; 0: it cannot be done."""
    forked_signal: int
    """With it a child tells where it stands; 0: it cannot."""
    ident_offset: int
    """``threading.get_ident()`` of a thread minus its ``tls``."""
    signed_bits: int
    """Bits of an address of code in which the processor keeps a signature; 0: it signs none."""
    cpu_ns: int
    """What the capturing thread has used of a processor since its deadline was set."""
    wall_ns: int
    """How long ago that was; 0: not known."""
    place_ns: int
    """How long the process had been where it was: in the test, or at the place of the request."""
    place_tid: int
    """The thread that said so: the one that runs the tests."""
    journal_address: int
    journal_size: int
    """Bytes of the captured process's notes, see csrc/journal.c."""
    workers_address: int
    workers_count: int
    """``WORKER`` records in the memory of a controller, see csrc/workers.c."""
    slot: int
    """Which of the run's captures this is; 0 if they are not limited."""
    attempt: int
    """1 for the first run of the test, one more for each rerun."""
    phase: str | None
    """``setup``, ``call`` or ``teardown``; None outside of a test."""
    has_stderr: bool
    """Whether the test run's standard error is there to be written to at the end."""
    child_count: int
    """Children that the process had, ``NOT_READ`` if that is not known; ``children`` has the first."""
    descriptor_count: int
    """Descriptors that it had open, likewise."""
    children: bytes
    """``CHILD`` records with their texts."""
    descriptors: bytes
    """``OPEN_FILE`` records with theirs."""
    siginfo: bytes
    """``siginfo_t`` of the signal behind the capture; zeros without one."""
    stdout_end: bytes
    """The last bytes that went to standard output, ``OUTPUT_SIZE`` at most; of captures by a handler only,
    and only where they went to a file that can be read, as those of pytest."""
    stderr_end: bytes
    """Likewise of standard error."""
    threads: tuple[ThreadRecord, ...]
    """The capturing thread first."""
    context: CaptureContext
    """What ``CaptureEngine`` wrote before."""

    @property
    def directory(self) -> Path:
        """The artifact directory."""
        return self.context.run.directory

    @property
    def run_folder(self) -> Path:
        """The run's hidden folder, pinned: others may put another in its place."""
        return pin(self.directory / self.context.run.run_folder)

    @property
    def work_directory(self) -> Path:
        """The snapshot's working directory."""
        return self.run_folder / self.name

    @property
    def signal(self) -> SignalInfo | None:
        """The signal behind the capture, None without one."""
        number, _, code, address = _SIGINFO_HEAD.unpack_from(self.siginfo)
        sender = _SIGINFO_SENT.unpack_from(self.siginfo)
        return SignalInfo(number, code, address, *sender) if number else None


_COPIED: Final = frozenset(Handover._fields) & {name for name, _ in RECORD.fields}


def parse_handover(data: bytes) -> Handover:
    """Decode the hand-over; raises ArchiveError if the extension is of another version."""
    record = RECORD.unpack(data)
    registers = struct.Struct(f"<{record['registers']}Q")
    thread_size = THREAD.size + registers.size
    is_known = record["magic"] == MAGIC and record["record_size"] == RECORD.size
    if not is_known or record["thread_size"] != thread_size:
        raise ArchiveError(
            "the compiled extension and the Python code are of different versions",
            help_text="install pytest-gencore again",
        )
    descriptors_start = RECORD.size + record["children_size"]
    threads_start = descriptors_start + record["descriptors_size"]
    text_start = threads_start + record["thread_count"] * thread_size
    text_end = text_start + record["text_size"]
    stdout_end = text_end + record["stdout_size"]
    context = _with_own_program(decode_context(data[text_start:text_end]), record["snapshot_pid"])
    copied = {name: record[name] for name in _COPIED}
    phase = Phase(record["phase"]).text if context.by_handler else context.request.phase
    return Handover(
        **{
            **copied,
            "name": _text(record["name"]),
            "phase": phase or None,
            "attempt": max(1, record["attempt"]) if context.by_handler else context.request.attempt,
            "has_stderr": bool(record["has_stderr"]),
        },
        children=data[RECORD.size : descriptors_start],
        descriptors=data[descriptors_start:threads_start],
        siginfo=record["info"],
        stdout_end=data[text_end:stdout_end],
        stderr_end=data[stdout_end : stdout_end + record["stderr_size"]],
        threads=tuple(
            _parse_thread(data, offset, registers) for offset in range(threads_start, text_start, thread_size)
        ),
        context=context,
    )


def _with_own_program(context: CaptureContext, snapshot_pid: int) -> CaptureContext:
    """Name the program of a child: the text was made by its parent."""
    if not context.request.child_of:
        return context
    try:
        executable = os.readlink(f"/proc/{snapshot_pid}/exe")  # noqa: PTH115 - a text
    except OSError:
        return context
    return context._replace(run=context.run._replace(executable=executable))


def _parse_thread(data: bytes, offset: int, registers: struct.Struct) -> ThreadRecord:
    head = THREAD.unpack(data, offset)
    return ThreadRecord(
        tid=head["tid"],
        state=ThreadState(head["state"]),
        name=_text(head["name"]),
        fp_address=head["fp_address"],
        fp_size=head["fp_size"],
        tls=head["tls"],
        blocked=head["sigmask"],
        registers=registers.unpack_from(data, offset + THREAD.size),
    )


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")
