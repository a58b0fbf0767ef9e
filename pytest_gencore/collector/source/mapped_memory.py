"""The snapshot's memory for readers that follow pointers of a process that may be broken."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import struct

    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot

_TEXT_LIMIT: Final = 4096
"""PATH_MAX of Linux, with the zero at the end."""


class MappedMemory:
    """The snapshot's memory, as far as it is mapped: an address may be any number."""

    def __init__(self, snapshot: Snapshot, mappings: list[Mapping]) -> None:
        self._snapshot = snapshot
        self._starts: list[int] = []
        self._ends: list[int] = []
        for mapping in sorted((m for m in mappings if m.readable), key=lambda m: m.start):
            if self._ends and self._ends[-1] == mapping.start:
                self._ends[-1] = mapping.end
            else:
                self._starts.append(mapping.start)
                self._ends.append(mapping.end)

    def read(self, address: int, size: int) -> bytes:
        """Return up to so many bytes, as far as mappings go; none where nothing readable is mapped."""
        index = bisect.bisect_right(self._starts, address) - 1
        end = self._ends[index] if index >= 0 else 0
        return self._snapshot.read(address, min(size, end - address)) if address < end else b""

    def unpack(self, structure: struct.Struct, address: int) -> tuple[int, ...] | None:
        """Return what is there, None if that is not mapped."""
        data = self.read(address, structure.size)
        return structure.unpack(data) if len(data) == structure.size else None

    def read_text(self, address: int) -> bytes:
        """Read a string page by page: the page behind it may be one that cannot be read."""
        page_size = self._snapshot.status.page_size
        text = b""
        while b"\0" not in text and len(text) < _TEXT_LIMIT:
            at = address + len(text)
            piece = self.read(at, page_size - at % page_size)
            if not piece:
                return b""
            text += piece
        text, zero, _ = text.partition(b"\0")
        return text if zero and len(text) < _TEXT_LIMIT else b""
