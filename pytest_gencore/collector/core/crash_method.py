"""Method ``crash``: the kernel's core, with our notes, which hold all threads.

It is read while the kernel still writes it: the kernel writes headers first and then the segments in order,
never going back (``fs/coredump.c``). What of the segments will be holes is known from the page tables of the
snapshot, which has the same memory. See docs/adr/0007-read-the-core-while-it-is-written.md.
"""

from __future__ import annotations

import bisect
import errno
import os
from typing import TYPE_CHECKING, BinaryIO

from pytest_gencore.collector.core.core_stream import CoreStream, merge_extents
from pytest_gencore.corefile.constants import PN_XNUM
from pytest_gencore.corefile.notes import CoreFormatError
from pytest_gencore.corefile.reader import read_core
from pytest_gencore.corefile.writer import retarget_notes
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.collector.core.kernel_dump import KernelDump
    from pytest_gencore.corefile.reader import CoreFile
    from pytest_gencore.corefile.segments import Segment

_BLOCK = 512
"""Extents of a sparse tar member are multiples of this."""
_PIECE = 1024 * 1024
_HEADER = 64 * 1024
_TICK_SECONDS = 0.01
_FOLLOWED_SIZE = 32 * 1024 * 1024
"""Smaller cores are written before anything is gained by reading along."""


class CoreChangedError(ArchiveError):
    """The core did not become what its headers promised: it must be read again from its start."""


def follow_core(
    dump: KernelDump, notes: bytes, contents: list[tuple[int, int]]
) -> tuple[CoreStream, BinaryIO] | None:
    """Begin to read the core while it is written; None if it is complete, small, or nowhere to be seen.

    ``contents`` are (start, end) of all addresses that can have contents, sorted. The chunks of the stream
    raise CoreChangedError if the kernel wrote something else. The file is the caller's.
    """
    while not dump.has_ended(_TICK_SECONDS):
        path = dump.find()
        if path is None:
            continue
        file = path.open("rb")
        try:
            core = read_core(file)
        except CoreFormatError:  # its headers are not there yet
            file.close()
            continue
        first = min((segment.offset for segment in core.segments if segment.filesz), default=0)
        if os.fstat(file.fileno()).st_size <= first:
            file.close()
            continue
        if core.expected_size < _FOLLOWED_SIZE or len(core.segments) + 1 >= PN_XNUM:
            file.close()
            return None
        extents = [(0, first), *_extents(core.segments, contents)]
        return _follow(dump, core, file, extents, notes), file
    return None


def _extents(segments: tuple[Segment, ...], contents: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return (offset, length) in the file of what has contents."""
    extents = []
    ends = [end for _, end in contents]
    for segment in segments:
        limit = segment.data_end
        for start, end in contents[bisect.bisect_right(ends, segment.vaddr) :]:
            if start >= limit:
                break
            first, last = max(start, segment.vaddr), min(end, limit)
            extents.append((segment.offset + first - segment.vaddr, last - first))
    return sorted(extents)


def _follow(
    dump: KernelDump,
    core: CoreFile,
    file: BinaryIO,
    extents: list[tuple[int, int]],
    notes: bytes,
) -> CoreStream:
    descriptor = file.fileno()
    end = core.expected_size
    note_offset = end + -end % _BLOCK
    patches = retarget_notes(os.pread(descriptor, _HEADER, 0), note_offset, len(notes))
    data = [(offset, length + -length % _BLOCK) for offset, length in merge_extents(iter(extents))]

    def chunks() -> Iterator[bytes | memoryview]:
        read = _PatchedReader(descriptor, patches)
        for offset, length in _pieces(data):
            _wait_for_size(dump, descriptor, min(offset + length, end))
            yield read(offset, length)
        # Its last byte is there. That the kernel has closed it is not waited for: some file systems take as
        # long for that as for the writing.
        _wait_for_size(dump, descriptor, end)
        size = os.fstat(descriptor).st_size
        if size != end or not _are_within(_data_ranges(descriptor, size), data):
            raise CoreChangedError("the kernel's core is not what its headers say")
        yield notes

    return CoreStream(
        size=note_offset + len(notes),
        extents=list(merge_extents(iter([*data, (note_offset, len(notes))]))),
        chunks=chunks,
    )


def _wait_for_size(dump: KernelDump, descriptor: int, size: int) -> None:
    """Wait until the file has that size; raises CoreChangedError if it never will."""
    while os.fstat(descriptor).st_size < size:
        if dump.has_ended(_TICK_SECONDS) and os.fstat(descriptor).st_size < size:
            raise CoreChangedError("the kernel's core is shorter than its headers say")


def _are_within(ranges: Iterator[tuple[int, int]], extents: list[tuple[int, int]]) -> bool:
    """Tell whether each (start, end) lies inside one extent; both are sorted, and extents do not touch."""
    source = iter(extents)
    offset = length = 0
    for start, end in ranges:
        while offset + length <= start:
            offset, length = next(source, (end, 1))
        if start < offset or offset + length < end:
            return False
    return True


def read_whole_core(file: BinaryIO, notes: bytes) -> CoreStream:
    """Stream the kernel's complete core with our notes, which hold all threads; the file stays open.

    Raises ArchiveError if it is no core. One that is cut short is kept and marked.
    """
    try:
        core = read_core(file)
    except CoreFormatError as error:
        message = f"the kernel's core cannot be read: {error}"
        raise ArchiveError(message) from error
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

    def chunks() -> Iterator[bytes | memoryview]:
        read = _PatchedReader(file.fileno(), patches)
        for offset, length in _pieces(data):
            yield read(offset, length)
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


def _pieces(extents: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of what is read at once."""
    for offset, length in extents:
        for position in range(offset, offset + length, _PIECE):
            yield position, min(_PIECE, offset + length - position)


class _PatchedReader:
    """Reads pieces of a file, always into the same memory, and puts other bytes at some places."""

    def __init__(self, descriptor: int, patches: list[tuple[int, bytes]]) -> None:
        """``patches`` are (offset, bytes)."""
        self._descriptor = descriptor
        self._patches = patches
        self._buffer = memoryview(bytearray(_PIECE))

    def __call__(self, offset: int, length: int) -> memoryview:
        """Return at most ``_PIECE`` bytes, zeros behind the file's end; valid until the next call."""
        piece = self._buffer[:length]
        count = 0
        while count < length:
            more = os.preadv(self._descriptor, [piece[count:]], offset + count)
            if not more:
                piece[count:] = bytes(length - count)
                break
            count += more
        for at, value in self._patches:
            if offset <= at < offset + length:
                piece[at - offset : at - offset + len(value)] = value
        return piece
