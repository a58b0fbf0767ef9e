"""Method ``kernel``: a copy of the snapshot dies of SIGSEGV, the kernel writes its core, and that is read.

The kernel's core has one thread, because the snapshot has one: our notes, which have all threads, are put at
its end, and its header is pointed at them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, BinaryIO

from pytest_gencore.collector.core.core_stream import CoreStream, find_extents, write_at
from pytest_gencore.corefile.constants import EHDR_SIZE
from pytest_gencore.corefile.notes import CoreFormatError
from pytest_gencore.corefile.reader import read_core
from pytest_gencore.corefile.writer import retarget_notes
from pytest_gencore.errors import ArchiveError
from pytest_gencore.machine.core_pattern import CoreFacts, CorePattern, core_limit_of, why_no_core
from pytest_gencore.machine.patience import Patience, activity_of, describe_standstill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot

_SIGSEGV = 11
_BLOCK = 512
"""Notes begin at a multiple of this."""
_HEADER = 64 * 1024
_CHECK_SECONDS = 0.2


def dump_core(handover: Handover, snapshot: Snapshot, notes: bytes, check: Callable[[], None]) -> CoreStream:
    """Return the kernel's core of the snapshot with these notes; nothing of it is left in the file system.

    ``check`` is called a few times a second while the kernel writes, and what it raises ends that. Raises
    ArchiveError if the kernel writes no file that can be collected.
    """
    pattern = CorePattern.read()
    obstacle = _find_obstacle(pattern, snapshot, handover)
    if obstacle:
        message = f"method kernel cannot work here: {obstacle}"
        raise ArchiveError(message, help_text="use --gencore-method=memory")
    return stream_core(_dump(pattern, snapshot, handover, check), notes)


def _find_obstacle(pattern: CorePattern, snapshot: Snapshot, handover: Handover) -> str:
    """Return why the kernel would not write a file that we can collect; empty if it would."""
    page_size = snapshot.status.page_size
    return why_no_core(pattern, _describe(snapshot.pid, handover), core_limit_of(snapshot.pid), page_size)


def _describe(pid: int, handover: Handover) -> CoreFacts:
    """Return what the kernel puts into the name of the core of the snapshot or its copy."""
    return CoreFacts(
        pid=pid,
        tid=pid,
        signal=_SIGSEGV,
        hostname=os.uname().nodename,
        comm=handover.threads[0].name,
        executable=handover.context.run.executable,
    )


def _dump(
    pattern: CorePattern, snapshot: Snapshot, handover: Handover, check: Callable[[], None]
) -> BinaryIO:
    """Let a copy of the snapshot die, and open what the kernel wrote; its name is removed."""
    work_directory = handover.work_directory
    copy = snapshot.copy_to_crash()
    facts = _describe(copy, handover)
    for folder in pattern.subdirectories(work_directory, facts):
        folder.mkdir(mode=0o700, exist_ok=True)
    # In our own folder every core is this one, whatever the clock says.
    began_ns = time.time_ns() if pattern.is_absolute else 0
    try:
        descriptor = os.pidfd_open(copy)
    except ProcessLookupError as error:
        raise ArchiveError("the process whose core the kernel was to write has ended") from error
    try:
        with contextlib.suppress(ProcessLookupError):  # the wait tells how it ended
            signal.pidfd_send_signal(descriptor, signal.SIGSEGV)
        status = _await_core(snapshot, copy, check)
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)
        core = pattern.find(work_directory, facts, newer_than_ns=began_ns)
        file = _take(core) if core is not None else None
    if file is None:
        raise ArchiveError(
            _explain_missing(status, snapshot, pattern), help_text="use --gencore-method=memory"
        )
    return file


def _await_core(snapshot: Snapshot, copy: int, check: Callable[[], None]) -> int:
    """Return the wait status of the copy when it is dead; raises what ``check`` does, and ArchiveError."""
    patience = Patience()
    while (status := snapshot.status_of_copy(_CHECK_SECONDS)) is None:
        check()
        if patience.has_ended(activity_of(copy)):
            raise ArchiveError(
                describe_standstill("the process whose core the kernel writes", copy, patience.seconds)
            )
    return status


def _take(core: Path) -> BinaryIO:
    """Open the core and remove its name."""
    try:
        return core.open("r+b", buffering=0)
    finally:
        with contextlib.suppress(OSError):
            core.unlink()


def _explain_missing(status: int, snapshot: Snapshot, pattern: CorePattern) -> str:
    prepared = snapshot.status
    if not os.WIFSIGNALED(status):
        return (
            f"the kernel did not end the snapshot by SIGSEGV: it ended with status {os.WEXITSTATUS(status)}"
        )
    if os.WTERMSIG(status) != _SIGSEGV:
        return f"the snapshot was ended by signal {os.WTERMSIG(status)} before its core was written"
    if prepared.chdir_error:
        return f"the snapshot could not enter its working directory: {os.strerror(prepared.chdir_error)}"
    where = f"core_pattern is {pattern.template!r}"
    if os.WCOREDUMP(status):
        return f"the kernel says that it wrote a core, but there is no file of ours; {where}"
    return f"the kernel wrote no core; {where}"


def stream_core(file: BinaryIO, notes: bytes) -> CoreStream:
    """Put these notes in place of those of a complete core, and stream it; ``file`` is changed.

    Raises ArchiveError if it is not a core, and OSError. One that is cut short is kept and marked.
    """
    try:
        core = read_core(file)
        size = file.seek(0, os.SEEK_END)
        missing = core.missing_bytes(size)
        note_offset = size + -size % _BLOCK
        patches = retarget_notes(os.pread(file.fileno(), _HEADER, 0), note_offset, len(notes))
    except CoreFormatError as error:
        raise ArchiveError(_explain_unreadable(file, error)) from error
    for position, data in [*patches, (note_offset, notes)]:
        write_at(file.fileno(), memoryview(data), position)
    size = note_offset + len(notes)
    extents = list(find_extents(file.fileno(), size))

    def read(offset: int, buffer: memoryview) -> None:
        while buffer:
            count = os.preadv(file.fileno(), [buffer], offset)
            if not count:
                raise ArchiveError("the kernel's core has become shorter")
            offset += count
            buffer = buffer[count:]

    text = f"the core is truncated: {missing} bytes of its segments are missing"
    return CoreStream(size, extents, read, [text] if missing else [], truncated=missing > 0)


def _explain_unreadable(file: BinaryIO, error: CoreFormatError) -> str:
    file.seek(0)
    if any(file.read(EHDR_SIZE)):
        return f"the kernel's core cannot be read: {error}"
    return "the kernel has not written the beginning of its core"  # without room it goes on behind it
