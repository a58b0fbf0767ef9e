"""Executables and libraries: the little that a collector needs to know about them, see elf(5)."""

from __future__ import annotations

from typing import BinaryIO, Final

from pytest_gencore.corefile.constants import NOTE_GNU, NT_GNU_BUILD_ID, PT_NOTE
from pytest_gencore.corefile.notes import CoreFormatError, parse_notes
from pytest_gencore.corefile.reader import read_program_headers

_HEADERS_LIMIT: Final = 4096
"""Linux starts and loads nothing with more than fit into 64 KiB, 1170."""
_NOTES_LIMIT: Final = 1 << 20
"""Bytes of all notes of a file: nobody knows who made it."""
_BUILD_ID_LIMIT: Final = 64
"""Bytes; the longest that linkers make, SHA-1, has 20."""


def build_id_of(file: BinaryIO) -> str | None:
    """Return the build ID in lower case hex; None if the file has none or is no 64-bit ELF file.

    Only program headers are looked at: section headers may be stripped, broken or, in a mapped image, absent.
    """
    try:
        _, _, headers = read_program_headers(file, limit=_HEADERS_LIMIT)
    except CoreFormatError:
        return None
    left = _NOTES_LIMIT
    for header in headers:
        if header.type != PT_NOTE or header.filesz > left or header.offset >= 1 << 63:
            continue
        left -= header.filesz
        file.seek(header.offset)
        data = file.read(header.filesz)
        for note in parse_notes(data, align=8 if header.align == 8 else 4, allow_cut=True):
            if (note.name, note.type) == (NOTE_GNU, NT_GNU_BUILD_ID):
                return note.desc.hex() if len(note.desc) <= _BUILD_ID_LIMIT else None
    return None
