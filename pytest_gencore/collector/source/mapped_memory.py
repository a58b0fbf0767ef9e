"""The memory of a process that may be broken: only what is mapped is read, whatever an address says."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import struct
    from collections.abc import Iterable

    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot

_PAGES_LIMIT: Final = 256


class MappedMemory:
    """The snapshot's memory, as far as it is mapped: an address may be any number."""

    def __init__(self, snapshot: Snapshot, mappings: Iterable[Mapping]) -> None:
        self._snapshot = snapshot
        self._starts: list[int] = []
        self._ends: list[int] = []
        for mapping in sorted((m for m in mappings if m.readable), key=lambda m: m.start):
            if self._ends and self._ends[-1] == mapping.start:
                self._ends[-1] = mapping.end
            else:
                self._starts.append(mapping.start)
                self._ends.append(mapping.end)

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self._snapshot.status.page_size

    def read(self, address: int, size: int) -> bytes:
        """Return up to so many bytes, as far as mappings go; none where nothing readable is mapped."""
        index = bisect.bisect_right(self._starts, address) - 1
        end = self._ends[index] if index >= 0 else 0
        return self._snapshot.read(address, min(size, end - address)) if address < end else b""

    def unpack(self, structure: struct.Struct, address: int) -> tuple[int, ...] | None:
        """Return what is there, None if that is not mapped."""
        data = self.read(address, structure.size)
        return structure.unpack(data) if len(data) == structure.size else None

    def read_text(self, address: int, limit: int) -> bytes:
        """Read a string page by page: the page behind it may be one that cannot be read.

        Empty if it does not end within so many bytes, with its zero.
        """
        text = b""
        while b"\0" not in text and len(text) < limit:
            at = address + len(text)
            piece = self.read(at, self.page_size - at % self.page_size)
            if not piece:
                return b""
            text += piece
        text, zero, _ = text.partition(b"\0")
        return text if zero and len(text) < limit else b""


class PagedMemory(MappedMemory):
    """Likewise, by whole pages that are read once: for many small things close together."""

    def __init__(self, snapshot: Snapshot, mappings: Iterable[Mapping]) -> None:
        super().__init__(snapshot, mappings)
        self._pages: dict[int, bytes] = {}

    def read(self, address: int, size: int) -> bytes:
        """Do as ``MappedMemory.read``."""
        offset = address % self.page_size
        if offset + size > self.page_size:
            return super().read(address, size)
        first = address - offset
        if first not in self._pages:
            if len(self._pages) >= _PAGES_LIMIT:  # spread on purpose
                self._pages.clear()
            self._pages[first] = super().read(first, self.page_size)
        return self._pages[first][offset : offset + size]
