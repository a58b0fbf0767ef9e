"""What the capturing process hands over: ``struct gencore_record`` and its followers in csrc/gencore.h."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.errors import ArchiveError
from pytest_gencore.request.context import CaptureContext, decode_context

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"GENCORE1"
_RECORD = struct.Struct("<8sIIIIiiiiQQqqqqQQQiIii16s128s64s")
_THREAD_HEAD = struct.Struct("<iI16sQQQQ")
_SIGINFO_HEAD = struct.Struct("<iii4xQ")
"""``si_signo``, ``si_errno``, ``si_code``, ``si_addr`` of sigaction(2)."""


class ThreadState(IntEnum):
    """``enum gencore_thread_state``: how far the stop of a thread got."""

    STOPPED = 2
    CALLING = 3
    MASKED = 4
    SILENT = 5


@dataclass(frozen=True, slots=True)
class ThreadRecord:
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


@dataclass(frozen=True, slots=True)
class Handover:
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
    trace_function: int
    """Address of what writes all Python stacks, called with ``trace_signal``; 0 if there is nothing."""
    trace_signal: int
    journal_address: int
    journal_size: int
    """Bytes of the captured process's notes, see csrc/journal.c."""
    slot: int
    """Which of the run's captures this is; 0 if they are not limited."""
    attempt: int
    """1 for the first run of the test, one more for each rerun."""
    phase: str | None
    """``setup``, ``call`` or ``teardown``; None outside of a test."""
    has_stderr: bool
    """Whether the test run's standard error is there to be written to at the end."""
    siginfo: bytes
    """``siginfo_t`` of the signal behind the capture; zeros without one."""
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
        """The run's hidden folder in it."""
        return self.directory / self.context.run.run_folder

    @property
    def work_directory(self) -> Path:
        """The snapshot's working directory."""
        return self.run_folder / self.name

    @property
    def signal(self) -> SignalInfo | None:
        """The signal behind the capture, None without one."""
        number, _, code, address = _SIGINFO_HEAD.unpack_from(self.siginfo)
        return SignalInfo(number, code, address) if number else None


def parse_handover(data: bytes) -> Handover:
    """Decode the hand-over; raises ArchiveError if the extension is of another version."""
    magic, record_size, thread_size, count, registers, *numbers = _RECORD.unpack_from(data)
    *numbers, raw_phase, siginfo, raw_name = numbers
    expected_thread = _THREAD_HEAD.size + 8 * registers
    if magic != _MAGIC or record_size != _RECORD.size or thread_size != expected_thread:
        raise ArchiveError("the extension and the collector do not belong together", help_text="reinstall")
    pid, tid, snapshot_pid, stop_signal, text_size, core_filter, *numbers = numbers
    started_ns, stop_ns, snapshot_ns, pause_ns, *numbers = numbers
    trace_function, journal_address, journal_size, trace_signal, slot, attempt, has_stderr = numbers
    register_format = struct.Struct(f"<{registers}Q")
    threads = []
    offset = record_size
    for _ in range(count):
        head = _THREAD_HEAD.unpack_from(data, offset)
        values = register_format.unpack_from(data, offset + _THREAD_HEAD.size)
        threads.append(
            ThreadRecord(
                tid=head[0],
                state=ThreadState(head[1]),
                name=_text(head[2]),
                fp_address=head[3],
                fp_size=head[4],
                tls=head[5],
                blocked=head[6],
                registers=values,
            )
        )
        offset += thread_size
    context = decode_context(data[offset : offset + text_size])
    return Handover(
        name=_text(raw_name),
        pid=pid,
        tid=tid,
        snapshot_pid=snapshot_pid,
        stop_signal=stop_signal,
        core_filter=core_filter,
        started_ns=started_ns,
        stop_ns=stop_ns,
        snapshot_ns=snapshot_ns,
        pause_ns=pause_ns,
        trace_function=trace_function,
        trace_signal=trace_signal,
        journal_address=journal_address,
        journal_size=journal_size,
        slot=slot,
        attempt=max(1, attempt) if context.by_handler else context.request.attempt,
        phase=(_text(raw_phase) if context.by_handler else context.request.phase) or None,
        has_stderr=bool(has_stderr),
        siginfo=siginfo,
        threads=tuple(threads),
        context=context,
    )


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode(errors="replace")
