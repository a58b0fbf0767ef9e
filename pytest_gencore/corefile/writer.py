"""Lay a core file out: everything in it that is not the memory itself, see elf(5) and core(5)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.corefile.constants import (
    EHDR_SIZE,
    ELF_MAGIC,
    ELFCLASS64,
    ELFDATA2LSB,
    ET_CORE,
    EV_CURRENT,
    PF_R,
    PHDR_SIZE,
    PN_XNUM,
    PT_LOAD,
    PT_NOTE,
    SHDR_SIZE,
    SHT_NULL,
)
from pytest_gencore.corefile.notes import CoreFormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.corefile.machines import Machine
    from pytest_gencore.corefile.segments import Segment

EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
"""``Elf64_Ehdr``."""
PHDR: Final = struct.Struct("<IIQQQQQQ")
"""``Elf64_Phdr``."""
SHDR: Final = struct.Struct("<IIQQQQIIQQ")
"""``Elf64_Shdr``."""
_NOTE_ALIGN: Final = 4


class CoreLayout(NamedTuple):
    """Where everything in a core file is."""

    header: bytes
    """All bytes before the contents of the first segment: headers, notes, padding."""
    segments: tuple[Segment, ...]
    """As given, with their offsets."""
    size: int
    """Size of the whole file."""


def lay_out_core(machine: Machine, notes: bytes, segments: Sequence[Segment], page_size: int) -> CoreLayout:
    """Compute headers and offsets of a core with these notes and segments, which must be sorted by address.

    Order in the file: ELF header, program headers with PT_NOTE first, notes, section header 0 if PN_XNUM
    needs it, then the contents of the segments from a page boundary on.
    """
    header_count = 1 + len(segments)
    notes_offset = EHDR_SIZE + header_count * PHDR_SIZE
    headers_end = notes_offset + len(notes)
    section_offset = 0
    if header_count >= PN_XNUM:
        section_offset = _align(headers_end, 8)
        headers_end = section_offset + SHDR_SIZE
    placed, size = _place(segments, _align(headers_end, page_size), page_size)

    parts = [
        _elf_header(machine, header_count, section_offset),
        PHDR.pack(PT_NOTE, PF_R, notes_offset, 0, 0, len(notes), 0, _NOTE_ALIGN),
    ]
    parts += (
        PHDR.pack(PT_LOAD, part.flags, part.offset, part.vaddr, 0, part.filesz, part.memsz, page_size)
        for part in placed
    )
    parts.append(notes)
    if section_offset:
        parts.append(bytes(section_offset - notes_offset - len(notes)))
        parts.append(SHDR.pack(0, SHT_NULL, 0, 0, 0, 1, 0, header_count, 0, 0))
    parts.append(bytes(_align(headers_end, page_size) - headers_end))
    return CoreLayout(b"".join(parts), placed, size)


def _elf_header(machine: Machine, header_count: int, section_offset: int) -> bytes:
    identification = ELF_MAGIC + bytes((ELFCLASS64, ELFDATA2LSB, EV_CURRENT))
    extended = section_offset != 0
    return EHDR.pack(
        *(identification, ET_CORE, machine.e_machine, EV_CURRENT, 0),
        *(EHDR_SIZE, section_offset, 0, EHDR_SIZE, PHDR_SIZE),
        *(PN_XNUM if extended else header_count, SHDR_SIZE if extended else 0, int(extended), 0),
    )


def _place(segments: Sequence[Segment], start: int, page_size: int) -> tuple[tuple[Segment, ...], int]:
    placed: list[Segment] = []
    end_of_memory = 0
    offset = size = start
    for segment in segments:
        if segment.vaddr < end_of_memory or segment.filesz > segment.memsz:
            message = f"segment at {segment.vaddr:#x} overlaps, is out of order or larger than its memory"
            raise ValueError(message)
        end_of_memory = segment.vaddr + segment.memsz
        placed.append(segment._replace(offset=offset))
        size = offset + segment.filesz
        offset = _align(size, page_size)
    return tuple(placed), size


def retarget_notes(header: bytes, note_offset: int, note_size: int) -> list[tuple[int, bytes]]:
    """Make PT_NOTE point elsewhere: return what to write where.

    ``header`` is the beginning of a core, at least up to its PT_NOTE program header (the kernel puts that
    first). The new notes, at ``note_offset``, take the place of the old ones: they must hold all of them.
    """
    if note_offset % _NOTE_ALIGN:
        raise ValueError("notes must be aligned to 4 bytes")
    if len(header) < EHDR_SIZE or header[:4] != ELF_MAGIC:
        raise CoreFormatError("no ELF header")
    table_offset = EHDR.unpack_from(header)[5]
    for offset in range(table_offset, len(header) - PHDR_SIZE + 1, PHDR_SIZE):
        if PHDR.unpack_from(header, offset)[0] == PT_NOTE:
            return [(offset + 8, struct.pack("<Q", note_offset)), (offset + 32, struct.pack("<Q", note_size))]
    raise CoreFormatError("no PT_NOTE program header")


def _align(value: int, alignment: int) -> int:
    return value + (-value % alignment)
