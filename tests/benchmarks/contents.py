"""What is in the captured process: memory of a kind, threads, mappings, libraries."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results import Spec

MIB = 1 << 20
KINDS = ("mixed", "random", "compressible", "sparse")
_PAGE = mmap.PAGESIZE
_STRIDE = 2
"""MiB that are touched together in a mapping that is larger than what is touched."""
_MAP_NORESERVE = 0x4000
_MADV_NOHUGEPAGE = 15
_TEXT = b"".join(b'{"id": %d, "name": "item %d", "tags": ["a", "b"]}\n' % (i, i * 7919) for i in range(20000))


def populate(spec: Spec) -> list[object]:
    """Make everything that the spec asks for; the result keeps it alive."""
    kept: list[object] = [ctypes.CDLL(library) for library in spec.libraries]
    if spec.reserved_mib:
        kept.append(_fill_mapping(spec.reserved_mib, spec.size_mib, spec.memory))
    elif spec.memory == "sparse":
        kept.append(_fill_sparse(spec.size_mib))
    else:
        kept += [bytearray(_block(spec.memory, number)) for number in range(spec.size_mib)]
    if spec.mappings:
        kept.append(_make_mappings(spec.mappings))
    forever = threading.Event()
    for _ in range(spec.threads - 1):
        threading.Thread(target=forever.wait, daemon=True).start()
    return kept


def _block(kind: str, number: int) -> bytes:
    """Return one MiB: random bytes, JSON lines, or (mixed) one quarter of the blocks random."""
    if kind == "random" or (kind == "mixed" and number % 4 == 0):
        return os.urandom(MIB)
    start = number * 4099 % len(_TEXT)
    return (_TEXT[start:] + _TEXT)[:MIB]


def _reserve(size_mib: int) -> mmap.mmap:
    """Return a mapping of which no page is touched."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    mapping = mmap.mmap(-1, size_mib * MIB, flags=flags)
    mapping.madvise(_MADV_NOHUGEPAGE)  # else touching one page touches 512
    return mapping


def _fill_sparse(size_mib: int) -> mmap.mmap:
    """Of each MiB 64 KiB are JSON, 64 KiB are written zeros, the rest is never touched."""
    mapping = _reserve(size_mib)
    for number in range(size_mib):
        mapping.seek(number * MIB)
        mapping.write(_block("compressible", number)[: MIB // 16] + bytes(MIB // 16))
    return mapping


def _fill_mapping(reserved_mib: int, touched_mib: int, kind: str) -> mmap.mmap:
    """Touch that much, 2 MiB at a time, evenly over the mapping."""
    mapping = _reserve(reserved_mib)
    distance = reserved_mib * _STRIDE // touched_mib
    for number in range(touched_mib):
        group, within = divmod(number, _STRIDE)
        mapping.seek((group * distance + within) * MIB)
        mapping.write(_block(kind, number))
    return mapping


def _make_mappings(count: int) -> mmap.mmap:
    """Return pages of which every second one cannot be written, so that each is a mapping of its own."""
    mapping = mmap.mmap(-1, count * _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapping.write(b"page" * (count * _PAGE // 4))
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for number in range(1, count, 2):
        if mprotect(start + number * _PAGE, _PAGE, mmap.PROT_READ):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return mapping
