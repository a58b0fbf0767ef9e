"""Method ``crash``: the snapshot dies of SIGSEGV, the kernel writes its core, and we add the threads."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import time
from typing import TYPE_CHECKING, BinaryIO

from pytest_gencore.collector.core_pattern import CoreFacts, CorePattern
from pytest_gencore.collector.cores import CoreStream, merge_extents
from pytest_gencore.corefile.notes import CoreFormatError
from pytest_gencore.corefile.reader import read_core
from pytest_gencore.corefile.writer import retarget_notes
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_gencore.collector.handover import Handover
    from pytest_gencore.collector.snapshot import Snapshot

_BLOCK = 512
"""Extents of a sparse tar member are multiples of this."""
_PIECE = 1024 * 1024
_HEADER = 64 * 1024
_SIGSEGV = 11


def why_no_core(pattern: CorePattern, core_facts: CoreFacts, hard_limit: int, page_size: int) -> str:
    """Return why the kernel would not write a file that we can collect; empty if it would."""
    if pattern.kind == "pipe":
        return f"core_pattern sends cores to a program: {pattern.template}"
    if pattern.kind == "socket":
        return f"core_pattern sends cores to a socket: {pattern.template}"
    if pattern.kind == "none":
        return "core_pattern is empty"
    if 0 <= hard_limit < page_size:
        return "the hard limit of the core size is 0 (ulimit -Hc)"
    directory = pattern.fixed_directory(core_facts)
    if directory is not None and not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        reason = os.strerror(errno.EACCES if directory.is_dir() else errno.ENOENT)
        return f"core_pattern's directory {directory} cannot be written: {reason}"
    return ""


def core_limit_of(pid: int) -> int:
    """Return the hard RLIMIT_CORE of a process of ours in bytes, -1 without limit."""
    return resource.prlimit(pid, resource.RLIMIT_CORE)[1]


def describe_dump(pid: int, handover: Handover) -> CoreFacts:
    """Return what the kernel puts into the name of the core of the snapshot or its copy."""
    return CoreFacts(
        pid=pid,
        tid=pid,
        signal=_SIGSEGV,
        hostname=socket.gethostname(),
        comm=handover.threads[0].name,
        executable=handover.request["executable"],
    )


def crash_and_find(snapshot: Snapshot, handover: Handover, pattern: CorePattern, timeout: float) -> Path:
    """Let the kernel write a core of the snapshot and return it; raises ArchiveError if there is none."""
    copy = snapshot.copy_to_crash()
    core_facts = describe_dump(copy, handover)
    for folder in pattern.subdirectories(handover.work_directory, core_facts):
        folder.mkdir(mode=0o700, exist_ok=True)
    before = time.time_ns()
    status = snapshot.crash(copy, timeout)
    core = pattern.find(handover.work_directory, core_facts, newer_than_ns=before)
    if core is None:
        raise ArchiveError(_explain_missing(status, snapshot, pattern), help_text="use --gencore-method=auto")
    return core


def _explain_missing(status: int, snapshot: Snapshot, pattern: CorePattern) -> str:
    hello = snapshot.hello
    if not os.WIFSIGNALED(status):
        return "the kernel did not end the snapshot by SIGSEGV: is it the first process of a PID namespace?"
    if os.WTERMSIG(status) != _SIGSEGV:
        return f"the snapshot was ended by signal {os.WTERMSIG(status)} before its core was written"
    if hello.chdir_error:
        return f"the snapshot could not enter its working directory: {os.strerror(hello.chdir_error)}"
    where = f"core_pattern is {pattern.template!r}"
    if os.WCOREDUMP(status):
        return f"the kernel says that it wrote a core, but there is no file of ours; {where}"
    return f"the kernel wrote no core; {where}"


def open_core(path: Path, notes: bytes, filter_error: int) -> tuple[CoreStream, BinaryIO]:
    """Open the kernel's core and give it our notes, which hold all threads; the file is the caller's.

    Raises ArchiveError if it is no core. One that is cut short is kept and marked.
    """
    file = path.open("rb")
    try:
        stream = _stream_core(file, notes)
    except CoreFormatError as error:
        file.close()
        message = f"the kernel's core cannot be read: {error}"
        raise ArchiveError(message) from error
    except BaseException:
        file.close()
        raise
    if filter_error:
        stream.notices.append(
            f"coredump_filter could not be set ({os.strerror(filter_error)}): the kernel's own was in force"
        )
    return stream, file


def _stream_core(file: BinaryIO, notes: bytes) -> CoreStream:
    core = read_core(file)
    size = os.fstat(file.fileno()).st_size
    missing = core.missing_bytes(size)
    note_offset = size + -size % _BLOCK
    patches = retarget_notes(os.pread(file.fileno(), _HEADER, 0), note_offset, len(notes))
    notices = []
    if missing:
        notices.append(
            f"the core is truncated: {missing} bytes of its segments are missing (limit or full disk?)"
        )
    data = [
        (start, end - start + -(end - start) % _BLOCK) for start, end in _data_ranges(file.fileno(), size)
    ]

    def chunks() -> Iterator[bytes]:
        for offset, length in data:
            yield from _read_patched(file.fileno(), offset, length, patches)
        yield notes

    return CoreStream(
        size=note_offset + len(notes),
        extents=list(merge_extents(iter([*data, (note_offset, len(notes))]))),
        chunks=chunks,
        notices=notices,
        truncated=missing > 0,
    )


def _data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of what is not a hole; starts are block boundaries."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            yield position, size  # a file system without holes
            return
        yield start - start % _BLOCK, end
        position = end


def _read_patched(
    descriptor: int, offset: int, length: int, patches: list[tuple[int, bytes]]
) -> Iterator[bytes]:
    end = offset + length
    while offset < end:
        wanted = min(_PIECE, end - offset)
        piece = os.pread(descriptor, wanted, offset).ljust(wanted, b"\0")
        for at, value in patches:
            if offset <= at < offset + wanted:
                inside = at - offset
                piece = piece[:inside] + value + piece[inside + len(value) :]
        yield piece
        offset += wanted


def remove_core(path: Path) -> None:
    """Remove the kernel's core."""
    with contextlib.suppress(OSError):
        path.unlink()
