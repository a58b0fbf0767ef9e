"""A core on its way into the archive: its size, its extents, its bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class CoreStream:
    """A core file that is read once, in order."""

    size: int
    """Apparent size, with holes."""
    extents: Sequence[tuple[int, int]]
    """(offset, length) of what is not a hole, sorted."""
    chunks: Callable[[], Iterator[bytes | memoryview]]
    """The contents of the extents, one behind the other; each is valid until the next is asked for."""
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


def write_core(core: CoreStream, descriptor: int, on_progress: Callable[[int], None] | None = None) -> None:
    """Write a core into an empty file, with its holes; ``on_progress`` gets the bytes so far."""
    chunks = core.chunks()
    rest: bytes | memoryview = b""
    done = 0
    for offset, length in core.extents:
        position = offset
        while position < offset + length:
            piece = rest or next(chunks)
            count = os.pwrite(descriptor, piece[: offset + length - position], position)
            rest = piece[count:]
            position += count
            done += count
        if on_progress is not None:
            on_progress(done)
    os.ftruncate(descriptor, core.size)
