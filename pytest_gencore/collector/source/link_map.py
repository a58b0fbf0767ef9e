"""The names under which the dynamic loader knows the libraries: what debuggers look for.

A debugger reads them from the list that ``_r_debug`` of <link.h> begins. They are often links, such as
``/lib/x86_64-linux-gnu/libz.so.1``, while mappings show the file itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gencore.corefile.constants import PHDR_SIZE

if TYPE_CHECKING:
    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot

_AT_PHDR, _AT_PHNUM = 3, 5
_PT_DYNAMIC, _PT_PHDR = 2, 6
_DT_DEBUG = 21
_PAIR = struct.Struct("<QQ")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_LINK_MAP = struct.Struct("<QQQQ")
"""``l_addr``, ``l_name``, ``l_ld``, ``l_next`` of ``struct link_map``."""
_LINK_MAP_SIZE = 40
"""With ``l_prev``: gdb ends the list where it is not the entry before."""
_R_MAP_OFFSET = 8
_R_DEBUG_SIZE = 40
_DYNAMIC_SIZE = 1024
"""Bytes of a dynamic section that surely matter: 64 entries."""
_LIBRARIES_LIMIT = 100_000
_NAME_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class LinkMap:
    """The loader's list."""

    libraries: list[tuple[bytes, int]]
    """Name and address of the dynamic section of each entry."""
    ranges: list[tuple[int, int]]
    """(address, size) of what a debugger reads to find the list and what is in it."""


def read_link_map(snapshot: Snapshot, auxv: bytes) -> LinkMap:
    """Walk the list in the snapshot's memory; it is empty in a static executable."""
    result = LinkMap([], [])
    auxiliary = dict(_PAIR.iter_unpack(auxv[: len(auxv) // 16 * 16]))
    debug = _debug_address(snapshot, auxiliary)
    if not debug:
        return result
    result.ranges.extend([(auxiliary[_AT_PHDR], auxiliary[_AT_PHNUM] * PHDR_SIZE), (debug, _R_DEBUG_SIZE)])
    (entry,) = struct.unpack("<Q", snapshot.read(debug + _R_MAP_OFFSET, 8))
    while entry and len(result.libraries) < _LIBRARIES_LIMIT:
        result.ranges.append((entry, _LINK_MAP_SIZE))
        _, name_address, dynamic, entry = _LINK_MAP.unpack(snapshot.read(entry, _LINK_MAP.size))
        name = _read_name(snapshot, name_address)
        result.libraries.append((name, dynamic))
        result.ranges.extend([(name_address, len(name) + 1), (dynamic, _DYNAMIC_SIZE)])
    return result


def find_aliases(link_map: LinkMap, mappings: list[Mapping]) -> dict[bytes, bytes]:
    """Return for each absolute name in the loader's list that is not the mapped path: name to path."""
    files = [mapping for mapping in mappings if mapping.is_file]
    aliases = {}
    for name, dynamic in link_map.libraries:
        if not name.startswith(b"/") or b"/../" in name:
            continue
        path = next((m.path for m in files if m.start <= dynamic < m.end), None)
        if path is not None and path != name:
            aliases[name] = path
    return aliases


def _read_name(snapshot: Snapshot, address: int) -> bytes:
    """Read a string page by page: the one behind it may not be mapped, and would count as unreadable."""
    page_size = snapshot.status.page_size
    name = b""
    while b"\0" not in name and len(name) < _NAME_LIMIT:
        at = address + len(name)
        name += snapshot.read(at, page_size - at % page_size)
    return name.partition(b"\0")[0]


def _debug_address(snapshot: Snapshot, auxiliary: dict[int, int]) -> int:
    """Return the address of ``_r_debug``, 0 in a static executable."""
    table, count = auxiliary.get(_AT_PHDR, 0), auxiliary.get(_AT_PHNUM, 0)
    if not table or not count:
        return 0
    headers = list(_PROGRAM_HEADER.iter_unpack(snapshot.read(table, count * PHDR_SIZE)))
    bias = next((table - header[3] for header in headers if header[0] == _PT_PHDR), 0)
    for header in headers:
        if header[0] == _PT_DYNAMIC:
            for tag, value in _PAIR.iter_unpack(snapshot.read(bias + header[3], header[6] // 16 * 16)):
                if tag == _DT_DEBUG:
                    return int(value)
    return 0
