"""The names under which the dynamic loader knows the libraries: what debuggers look for.

A debugger reads them from the list that ``_r_debug`` of <link.h> begins. They are often links, such as
``/lib/x86_64-linux-gnu/libz.so.1``, while mappings show the file itself.
"""

from __future__ import annotations

import bisect
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.source.mapped_memory import MappedMemory
from pytest_gencore.collector.source.procfs import parse_auxv
from pytest_gencore.corefile.constants import PHDR_SIZE

if TYPE_CHECKING:
    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot

_AT_PHDR, _AT_PHNUM = 3, 5
_PT_DYNAMIC, _PT_PHDR = 2, 6
_DT_NULL, _DT_DEBUG = 0, 21
_POINTER = struct.Struct("<Q")
_PAIR = struct.Struct("<QQ")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_LINK_MAP = struct.Struct("<QQQQQ")
"""``l_addr``, ``l_name``, ``l_ld``, ``l_next``, ``l_prev`` of ``struct link_map``: what gdb reads."""
_R_MAP_OFFSET = 8
_R_DEBUG_SIZE = 40
_DYNAMIC_SIZE = 1024
"""Bytes of a dynamic section that surely matter: 64 entries."""

# The memory belongs to a process that may be broken: whatever it says is bounded.
_HEADERS_LIMIT: Final = 64 << 10
"""Bytes of program headers; Linux starts no executable with more (``load_elf_phdrs``)."""
_DYNAMIC_LIMIT: Final = 64 << 10
"""Bytes of the executable's dynamic section that are read."""
_NAME_LIMIT: Final = 4096
"""PATH_MAX of Linux, with the zero at the end."""
_LIBRARIES_LIMIT: Final = 10_000


@dataclass(slots=True)
class LinkMap:
    """The loader's list."""

    libraries: list[tuple[bytes, int]] = field(default_factory=list)
    """Name and address of the dynamic section of each entry."""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    """(address, size) of what a debugger reads to find the list and what is in it."""
    notice: str = ""
    """Why the list was not read to its end; empty if it was."""


def read_link_map(snapshot: Snapshot, auxv: bytes, mappings: list[Mapping]) -> LinkMap:
    """Walk the list in the snapshot's memory; it is empty in a static executable."""
    result = LinkMap()
    memory = MappedMemory(snapshot, mappings)
    auxiliary = parse_auxv(auxv)
    table, headers_size = auxiliary.get(_AT_PHDR, 0), auxiliary.get(_AT_PHNUM, 0) * PHDR_SIZE
    if headers_size > _HEADERS_LIMIT:
        return result
    debug = _debug_address(memory, table, headers_size)
    if not debug:
        return result
    result.ranges.extend([(table, headers_size), (debug, _R_DEBUG_SIZE)])
    seen: set[int] = set()
    (entry,) = memory.unpack(_POINTER, debug + _R_MAP_OFFSET) or (0,)
    while entry:
        fields = memory.unpack(_LINK_MAP, entry)
        count = len(result.libraries)
        if fields is None or entry in seen or count == _LIBRARIES_LIMIT:
            what = "is longer than that" if count == _LIBRARIES_LIMIT else "is broken there"
            result.notice = f"the loader's list was read as far as its entry {count}: it {what}"
            break
        seen.add(entry)
        result.ranges.append((entry, _LINK_MAP.size))
        _, name_address, dynamic, entry, _ = fields
        name = memory.read_text(name_address, _NAME_LIMIT)
        result.libraries.append((name, dynamic))
        result.ranges.extend([(name_address, len(name) + 1), (dynamic, _DYNAMIC_SIZE)])
    return result


def find_aliases(link_map: LinkMap, mappings: list[Mapping]) -> dict[bytes, bytes]:
    """Return for each absolute name in the loader's list that is not the mapped path: name to path.

    Names are as short as they can be without another meaning: ``/lib/./x//y`` is ``/lib/x/y``.
    """
    files = sorted((mapping for mapping in mappings if mapping.is_file), key=lambda mapping: mapping.start)
    starts = [mapping.start for mapping in files]
    aliases = {}
    for name, dynamic in link_map.libraries:
        if not name.startswith(b"/") or b".." in name.split(b"/"):
            continue
        index = bisect.bisect_right(starts, dynamic) - 1
        alias = b"/" + os.path.normpath(name).lstrip(b"/")
        if index >= 0 and dynamic < files[index].end and alias != files[index].path:
            aliases[alias] = files[index].path
    return aliases


def _debug_address(memory: MappedMemory, table: int, size: int) -> int:
    """Return the address of ``_r_debug``, 0 in a static executable."""
    data = memory.read(table, size)
    headers = list(_PROGRAM_HEADER.iter_unpack(data[: len(data) // PHDR_SIZE * PHDR_SIZE]))
    bias = next((table - header[3] for header in headers if header[0] == _PT_PHDR), 0)
    for header in headers:
        if header[0] == _PT_DYNAMIC:
            section = memory.read(bias + header[3], min(header[6], _DYNAMIC_LIMIT))
            for tag, value in _PAIR.iter_unpack(section[: len(section) // 16 * 16]):
                if tag == _DT_DEBUG:
                    return int(value)
                if tag == _DT_NULL:
                    break
    return 0
