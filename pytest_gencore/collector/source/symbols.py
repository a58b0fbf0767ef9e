"""Addresses of dynamic symbols of a mapped library, from the library in memory: see elf(5).

The memory belongs to a process that may be broken: whatever it says is bounded.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Final

from pytest_gencore.corefile.constants import PT_LOAD
from pytest_gencore.corefile.notes import CoreFormatError
from pytest_gencore.corefile.reader import read_program_headers

if TYPE_CHECKING:
    from pytest_gencore.collector.source.mapped_memory import MappedMemory
    from pytest_gencore.corefile.reader import ProgramHeader

_PT_DYNAMIC: Final = 2
_DT_NULL, _DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH = 0, 5, 6, 0x6FFFFEF5
_PAIR = struct.Struct("<QQ")
_WORD = struct.Struct("<I")
_HASH_TABLE = struct.Struct("<IIII")
"""Buckets, first symbol, words of the filter, its shift."""
_SYMBOL = struct.Struct("<IBBHQQ")
_HEADERS_SIZE: Final = 4096
"""Bytes in which a library has its program headers."""
_DYNAMIC_LIMIT: Final = 4096
_CHAIN_LIMIT: Final = 1000
"""Symbols of one bucket; of libc they are fewer than ten."""


def read_load_headers(memory: MappedMemory, base: int) -> tuple[int, list[ProgramHeader]]:
    """Return what to add to addresses of the library mapped at ``base``, and its program headers.

    No headers where that is no ELF file.
    """
    try:
        _, _, headers = read_program_headers(io.BytesIO(memory.read(base, _HEADERS_SIZE)))
    except CoreFormatError:
        return 0, []
    return base - next((header.vaddr for header in headers if header.type == PT_LOAD), 0), headers


def find_symbol(memory: MappedMemory, base: int, name: bytes) -> int | None:
    """Return the address of a symbol that the library mapped at ``base`` exports; None if it has none."""
    bias, headers = read_load_headers(memory, base)
    section = next((header for header in headers if header.type == _PT_DYNAMIC), None)
    if section is None:
        return None
    data = memory.read(bias + section.vaddr, min(section.memsz, _DYNAMIC_LIMIT))
    entries: dict[int, int] = {}
    for tag, value in _PAIR.iter_unpack(data[: len(data) // _PAIR.size * _PAIR.size]):
        if tag == _DT_NULL:
            break
        entries[tag] = value  # an address that the loader has relocated
    if not {_DT_STRTAB, _DT_SYMTAB, _DT_GNU_HASH} <= entries.keys():
        return None
    value = _look_up(memory, entries, name)
    return bias + value if value else None


def _look_up(memory: MappedMemory, entries: dict[int, int], name: bytes) -> int | None:
    """Return the value of a symbol by the table DT_GNU_HASH."""
    table = entries[_DT_GNU_HASH]
    buckets, first, filter_words, _ = memory.unpack(_HASH_TABLE, table) or (0, 0, 0, 0)
    if not buckets:
        return None
    wanted = _hash(name)
    bucket_at = table + _HASH_TABLE.size + 8 * filter_words
    chain_at = bucket_at + 4 * buckets
    (index,) = memory.unpack(_WORD, bucket_at + 4 * (wanted % buckets)) or (0,)
    if index < first:
        return None
    for number in range(index, index + _CHAIN_LIMIT):
        (found,) = memory.unpack(_WORD, chain_at + 4 * (number - first)) or (1,)
        if found | 1 == wanted | 1:
            symbol = memory.unpack(_SYMBOL, entries[_DT_SYMTAB] + number * _SYMBOL.size)
            expected = name + b"\0"
            if symbol and memory.read(entries[_DT_STRTAB] + symbol[0], len(expected)) == expected:
                return symbol[4]
        if found & 1:  # the last of its bucket
            break
    return None


def _hash(name: bytes) -> int:
    value = 5381
    for character in name:
        value = (value * 33 + character) & 0xFFFFFFFF
    return value
