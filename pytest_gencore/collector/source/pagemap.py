"""Which pages of a mapping have contents, without touching them.

PAGEMAP_SCAN of ioctl_pagemap_scan(2) since Linux 6.7, else the entries of ``/proc/PID/pagemap`` (Linux,
admin-guide/mm/pagemap.rst).
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import struct
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGEMAP_SCAN = 0xC0606610
"""``_IOWR('f', 16, struct pm_scan_arg)`` of <linux/fs.h>."""
_SCAN = struct.Struct("<12Q")
_PAGE_IS_PRESENT = 1 << 3
_PAGE_IS_SWAPPED = 1 << 4
_PAGE_IS_PFNZERO = 1 << 5
_REGIONS = 4096
_REGION_WORDS = 3

_PRESENT = 1 << 63
_SWAPPED = 1 << 62
_ENTRIES_PIECE = 128 * 1024


@final
class PageMap:
    """The page table of a process, as far as the kernel shows it."""

    def __init__(self, pid: int, page_size: int) -> None:
        """Open it; where the kernel has none, every page counts as present."""
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._page_size = page_size
        self._can_scan = True

    def __enter__(self) -> PageMap:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)

    def ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of the parts that are in memory or swapped out, in order of address."""
        if self._file is None:
            yield start, end
            return
        if self._can_scan:
            try:
                yield from self._scan(self._file, start, end)
            except OSError:
                self._can_scan = False
            else:
                return
        yield from self._read(self._file, start, end)

    def _scan(self, file: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        regions = array.array("Q", bytes(_REGIONS * _REGION_WORDS * 8))
        address = regions.buffer_info()[0]
        while start < end:
            argument = bytearray(
                _SCAN.pack(
                    *(_SCAN.size, 0, start, end, 0, address, _REGIONS, 0),
                    *(_PAGE_IS_PFNZERO, _PAGE_IS_PFNZERO),  # not the page of zeros
                    _PAGE_IS_PRESENT | _PAGE_IS_SWAPPED,
                    _PAGE_IS_PRESENT | _PAGE_IS_SWAPPED,
                )
            )
            count = fcntl.ioctl(file, _PAGEMAP_SCAN, argument)
            found = [(regions[at], regions[at + 1]) for at in range(0, count * _REGION_WORDS, _REGION_WORDS)]
            yield from found
            walked = _SCAN.unpack(argument)[4]
            if walked <= start:
                raise OSError("the scan makes no progress")
            start = walked

    def _read(self, file: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        page = self._page_size
        open_at = None
        for first in range(start // page, end // page, _ENTRIES_PIECE):
            count = min(_ENTRIES_PIECE, end // page - first)
            raw = os.pread(file, count * 8, first * 8)
            if not any(raw):
                if open_at is not None:
                    yield open_at, first * page
                    open_at = None
                continue
            for number, entry in enumerate(memoryview(raw).cast("Q"), first):
                if entry & (_PRESENT | _SWAPPED):
                    open_at = number * page if open_at is None else open_at
                elif open_at is not None:
                    yield open_at, number * page
                    open_at = None
        if open_at is not None:
            yield open_at, end
