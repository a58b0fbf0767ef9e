"""Method ``memory``: we write the core ourselves, from the memory that the snapshot serves.

Which parts of a mapping a core holds is decided as ``vma_dump_size`` in the kernel's ``fs/coredump.c`` does.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.collector.core.core_stream import CoreStream, merge_extents
from pytest_gencore.collector.source.pagemap import PageMap
from pytest_gencore.corefile.constants import ELF_MAGIC, PF_R, PF_W, PF_X
from pytest_gencore.corefile.segments import Segment
from pytest_gencore.corefile.writer import lay_out_core

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot
    from pytest_gencore.corefile.machines import Machine

_ANONYMOUS_PRIVATE, _ANONYMOUS_SHARED, _MAPPED_PRIVATE, _MAPPED_SHARED = 1, 2, 4, 8
_ELF_HEADERS, _HUGETLB_PRIVATE, _HUGETLB_SHARED = 16, 32, 64
"""Bits of ``coredump_filter``, see core(5)."""
_IN_MEMORY_FILES = (b"/dev/shm/", b"/memfd:", b"/SYSV", b"/dev/zero")
_MINCORE_PIECE = 1 << 20
GAP_FILL: Final = b"\xf5"
"""Stands for bytes that are left out between others: no text in UTF-8 has it, and no address of a program."""


class Selection(NamedTuple):
    """What of the memory a core has."""

    core_filter: int
    """Bits of ``coredump_filter``, see core(5)."""
    needed: list[tuple[int, int]]
    """(address, size) of what is in the core whatever the filter says, as ELF headers are.

    Without some of it a debugger finds no libraries.
    """
    blank: tuple[int, int] = (0, 0)
    """Start and end of what is zeros."""
    gaps: Sequence[tuple[int, int]] = ()
    """Start and end of what is ``GAP_FILL``, sorted."""


def build_core(
    snapshot: Snapshot,
    machine: Machine,
    mappings: list[Mapping],
    notes: bytes,
    selection: Selection,
) -> CoreStream:
    """Plan a core of the snapshot; reading it happens when its chunks are asked for."""
    page_size = snapshot.status.page_size
    needed = _pages_of(selection.needed, page_size)
    pieces = [
        piece
        for mapping in sorted(mappings, key=lambda mapping: mapping.start)
        for piece in _pieces(mapping, selection.core_filter, snapshot, needed)
    ]
    segments = [Segment(start, end - start, filesz, _flags(m)) for m, start, end, filesz in pieces]
    layout = lay_out_core(machine, notes, segments, page_size)
    pairs = list(zip(pieces, layout.segments, strict=True))
    with PageMap(snapshot.pid, page_size) as pages:
        ranges = [
            (
                segment,
                list(_contents(mapping, segment.vaddr, segment.data_end, snapshot, pages)),
            )
            for (mapping, *_), segment in pairs
            if segment.filesz
        ]

    def extents() -> Iterator[tuple[int, int]]:
        yield 0, len(layout.header)
        for segment, parts in ranges:
            for start, end in parts:
                yield segment.offset + start - segment.vaddr, end - start

    return CoreStream(
        size=layout.size,
        extents=list(merge_extents(extents())),
        read=_CoreReader(
            layout.header,
            snapshot,
            [(segment, _is_in_memory(mapping)) for (mapping, *_), segment in pairs],
            selection,
        ).read,
    )


class _CoreReader:
    """Reads the core from the snapshot's memory, in any thread."""

    def __init__(
        self,
        header: bytes,
        snapshot: Snapshot,
        segments: list[tuple[Segment, bool]],
        selection: Selection,
    ) -> None:
        """``segments`` lie one behind the other; the bool tells whether no file is behind one."""
        self._header = header
        self._snapshot = snapshot
        self._segments = [(segment, copies) for segment, copies in segments if segment.filesz]
        self._offsets = [segment.offset for segment, _ in self._segments]
        self._blank = selection.blank
        self._gaps = selection.gaps
        self._gap_ends = [end for _, end in selection.gaps]

    def read(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer with what is at an offset of the core: the header, or the memory of segments."""
        begin = self._header[offset : offset + len(buffer)]
        buffer[: len(begin)] = begin
        offset += len(begin)
        buffer = buffer[len(begin) :]
        number = bisect.bisect(self._offsets, offset) - 1
        while buffer:
            segment, copies = self._segments[number]
            number += 1
            piece = buffer[: segment.offset + segment.filesz - offset]
            read = self._snapshot.copy_into if copies else self._snapshot.read_into
            address = segment.vaddr + offset - segment.offset
            read(address, piece)
            self._overwrite(address, piece)
            offset += len(piece)
            buffer = buffer[len(piece) :]

    def _overwrite(self, address: int, piece: memoryview) -> None:
        """Take out of the memory at an address what the core shall not have."""
        start, end = max(self._blank[0] - address, 0), min(self._blank[1] - address, len(piece))
        if start < end:
            piece[start:end] = bytes(end - start)
        number = bisect.bisect_right(self._gap_ends, address)
        while number < len(self._gaps) and self._gaps[number][0] < address + len(piece):
            start, end = self._gaps[number]
            start, end = max(start - address, 0), min(end - address, len(piece))
            piece[start:end] = GAP_FILL * (end - start)
            number += 1


def _is_in_memory(mapping: Mapping) -> bool:
    """Tell whether all of a mapping is in memory or swapped out: no file system is asked for it."""
    return not mapping.is_special and (not mapping.is_file or mapping.path.startswith(_IN_MEMORY_FILES))


def _pieces(
    mapping: Mapping, core_filter: int, snapshot: Snapshot, needed: list[int]
) -> Iterator[tuple[Mapping, int, int, int]]:
    """Yield (mapping, start, end, bytes in the core) of its segments: one, or more around needed pages."""
    page_size = snapshot.status.page_size
    filesz = _file_size(mapping, core_filter, page_size)
    pages: list[int] = []
    if filesz == 0 and not mapping.is_left_out:
        pages = needed[bisect.bisect_left(needed, mapping.start) : bisect.bisect_left(needed, mapping.end)]
        if may_start_elf(mapping) and snapshot.read(mapping.start, 4) == ELF_MAGIC:
            pages = pages if pages and pages[0] == mapping.start else [mapping.start, *pages]
    position = mapping.start
    for start, size in merge_extents((page, page_size) for page in pages):
        if position < start:
            yield mapping, position, start, 0
        yield mapping, start, start + size, size
        position = start + size
    if position < mapping.end:
        yield mapping, position, mapping.end, filesz


def _pages_of(ranges: list[tuple[int, int]], page_size: int) -> list[int]:
    """Return the addresses of the pages that the ranges touch, sorted."""
    pages: set[int] = set()
    for address, size in ranges:
        pages.update(range(address - address % page_size, address + size, page_size))
    return sorted(pages)


def _flags(mapping: Mapping) -> int:
    return PF_R * mapping.readable | PF_W * mapping.writable | PF_X * mapping.executable


def _file_size(mapping: Mapping, core_filter: int, page_size: int) -> int:
    """Return how many bytes of the mapping belong into the core."""
    if mapping.is_special:
        return mapping.size
    if mapping.is_left_out:
        return 0
    wanted = core_filter & _filter_bit(mapping)
    if wanted or (core_filter & _ANONYMOUS_PRIVATE and has_been_written(mapping)):
        return mapping.size
    if core_filter & _ELF_HEADERS and may_start_elf(mapping):
        return page_size
    return 0


def _filter_bit(mapping: Mapping) -> int:
    if "ht" in mapping.flags:
        return _HUGETLB_SHARED if mapping.shared else _HUGETLB_PRIVATE
    if mapping.shared:
        return _ANONYMOUS_SHARED if mapping.deleted else _MAPPED_SHARED
    if mapping.is_file:
        return _MAPPED_PRIVATE
    # Never touched: the kernel has no anon_vma and writes nothing.
    return _ANONYMOUS_PRIVATE if has_been_written(mapping) else 0


def has_been_written(mapping: Mapping) -> bool:
    """Tell whether a private mapping holds pages of its own."""
    if mapping.shared:
        return False
    return not mapping.sizes or bool(mapping.sizes.get("Anonymous", 0) or mapping.sizes.get("Swap", 0))


def may_start_elf(mapping: Mapping) -> bool:
    """Tell whether a mapping may begin with an ELF header."""
    return mapping.is_file and not mapping.shared and mapping.offset == 0 and mapping.readable


def _contents(
    mapping: Mapping, start: int, end: int, snapshot: Snapshot, pages: PageMap
) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of what between these addresses has contents; the rest are holes."""
    if mapping.path.startswith(b"[vvar") or (mapping.is_special and not mapping.readable):
        return  # the kernel's own pages: PFN mappings, which no core has, and the execute-only vsyscall
    if mapping.is_special or "ht" in mapping.flags:
        yield start, end
    elif mapping.shared and mapping.path.startswith(_IN_MEMORY_FILES) and not mapping.sizes.get("Swap", 0):
        yield from _pages_in_cache(start, end, snapshot)
    elif mapping.is_file or mapping.shared:
        yield start, end
    else:
        yield from pages.ranges(start, end)


def _pages_in_cache(start: int, end: int, snapshot: Snapshot) -> Iterator[tuple[int, int]]:
    """Yield what of a file in memory exists: reading its holes would fill them, in the live process too."""
    page_size = snapshot.status.page_size
    open_at = None
    total = (end - start) // page_size
    for first in range(0, total, _MINCORE_PIECE):
        answer = snapshot.mincore(start + first * page_size, min(_MINCORE_PIECE, total - first))
        for number, resident in enumerate(answer, first):
            if resident:
                open_at = number if open_at is None else open_at
            elif open_at is not None:
                yield start + open_at * page_size, start + number * page_size
                open_at = None
    if open_at is not None:
        yield start + open_at * page_size, end
