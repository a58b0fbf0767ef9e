"""A core on its way into the archive: its size, its extents, how its bytes are read."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_gencore.archive.gzip_writer import Reader

_PIECE: Final = 1 << 20
_BLOCK: Final = 512
"""Extents of a sparse tar member are multiples of this."""


@dataclass(frozen=True, slots=True)
class CoreStream:
    """A core file that does not exist."""

    size: int
    """Apparent size, with holes."""
    extents: Sequence[tuple[int, int]]
    """(offset, length) of what is not a hole, sorted."""
    read: Reader
    """Fills a buffer with what is at an offset, all of it in one extent; may be called in any thread."""
    notices: list[str] = field(default_factory=list)
    """What is missing or doubtful, for the manifest."""
    truncated: bool = False

    @property
    def data_size(self) -> int:
        """Bytes that are read and compressed."""
        return sum(length for _, length in self.extents)


def merge_extents(extents: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join extents that touch; they come sorted by offset."""
    current: tuple[int, int] | None = None
    for offset, length in extents:
        if not length:
            continue
        if current is not None and sum(current) == offset:
            current = (current[0], current[1] + length)
            continue
        if current is not None:
            yield current
        current = (offset, length)
    if current is not None:
        yield current


def find_extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of what is not a hole of a file, in whole blocks but for the last one."""
    return merge_extents(_list_extents(descriptor, size))


def _list_extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except AttributeError:  # a system without holes
            start, end = position, size
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            start, end = position, size  # a file system without holes
        start -= start % _BLOCK
        position = min(end + -end % _BLOCK, size)
        yield start, position - start


def write_core(core: CoreStream, descriptor: int, on_progress: Callable[[int], None] | None = None) -> None:
    """Write a core into an empty file, with its holes; ``on_progress`` gets the bytes so far."""
    buffer = memoryview(bytearray(_PIECE))
    done = 0
    for offset, length in core.extents:
        for position in range(offset, offset + length, _PIECE):
            piece = buffer[: offset + length - position]
            core.read(position, piece)
            write_at(descriptor, piece, position)
            done += len(piece)
            if on_progress is not None:
                on_progress(done)
    os.ftruncate(descriptor, core.size)


def write_at(descriptor: int, data: memoryview, position: int) -> None:
    """Write everything at an offset; raises OSError."""
    while data:
        count = os.pwrite(descriptor, data, position)
        data = data[count:]
        position += count
