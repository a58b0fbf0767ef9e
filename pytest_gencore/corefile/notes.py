"""Note entries: what PT_NOTE segments are made of, see "Notes (Nhdr)" in elf(5)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADER = struct.Struct("<III")


class CoreFormatError(ValueError):
    """The bytes are not what the ELF format, or the part of it that cores use, allows."""


class Note(NamedTuple):
    """One entry of a note segment."""

    name: str
    """Who defines ``type``: ``CORE``, ``LINUX``, ``GNU``."""
    type: int
    desc: bytes


def build_notes(notes: Iterable[Note]) -> bytes:
    """Encode notes the way ``writenote`` in ``fs/binfmt_elf.c`` does: name and contents padded to 4 bytes."""
    parts: list[bytes] = []
    for note in notes:
        name = note.name.encode("latin-1") + b"\0"
        parts += (
            _HEADER.pack(len(name), len(note.desc), note.type),
            name,
            bytes(-len(name) % 4),
            note.desc,
            bytes(-len(note.desc) % 4),
        )
    return b"".join(parts)


def parse_notes(data: bytes, *, align: int = 4, allow_cut: bool = False) -> list[Note]:
    """Decode the contents of a note segment.

    Notes in cores are aligned to 4 bytes whatever ``p_align`` says; segments of libraries with ``p_align`` 8
    (NT_GNU_PROPERTY_TYPE_0) to 8. With ``allow_cut`` a note that reaches beyond the data ends the list, as in
    a truncated core; otherwise it raises CoreFormatError.
    """
    notes: list[Note] = []
    offset = 0
    while offset < len(data):
        if len(data) - offset < _HEADER.size:
            if allow_cut or not any(data[offset:]):
                break
            message = f"note header at {offset} is cut"
            raise CoreFormatError(message)
        name_size, desc_size, kind = _HEADER.unpack_from(data, offset)
        name_start = offset + _HEADER.size
        desc_start = offset + _align(_HEADER.size + name_size, align)
        desc_end = desc_start + desc_size
        if name_start + name_size > len(data) or desc_end > len(data):
            if allow_cut:
                break
            message = f"note at {offset} reaches beyond its segment of {len(data)} bytes"
            raise CoreFormatError(message)
        name = data[name_start : name_start + name_size].rstrip(b"\0").decode("latin-1")
        notes.append(Note(name, kind, data[desc_start:desc_end]))
        offset += _align(desc_end - offset, align)
    return notes


def _align(value: int, alignment: int) -> int:
    return value + (-value % alignment)
