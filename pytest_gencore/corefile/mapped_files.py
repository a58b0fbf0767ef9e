"""NT_FILE: which files the process had mapped, see ``fill_files_note`` in ``fs/binfmt_elf.c``."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.corefile.notes import CoreFormatError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER = struct.Struct("<QQ")
_ENTRY = struct.Struct("<QQQ")


class MappedFile(NamedTuple):
    """One mapping of a file."""

    start: int
    end: int
    file_offset: int
    """In bytes; the note itself counts pages."""
    path: bytes
    """As the kernel writes it; a deleted file's ends in `` (deleted)``."""


def build_nt_file(files: Sequence[MappedFile], page_size: int) -> bytes:
    """Encode the contents of an NT_FILE note: count, page size, ranges, then all paths."""
    parts = [_HEADER.pack(len(files), page_size)]
    parts += (_ENTRY.pack(file.start, file.end, file.file_offset // page_size) for file in files)
    parts += (file.path + b"\0" for file in files)
    return b"".join(parts)


def parse_nt_file(desc: bytes) -> list[MappedFile]:
    """Decode the contents of an NT_FILE note; raises CoreFormatError if counts and bytes disagree."""
    if len(desc) < _HEADER.size:
        message = f"NT_FILE of {len(desc)} bytes has no header"
        raise CoreFormatError(message)
    count, page_size = _HEADER.unpack_from(desc)
    paths_start = _HEADER.size + count * _ENTRY.size
    if paths_start > len(desc):
        message = f"NT_FILE of {len(desc)} bytes has no room for {count} entries"
        raise CoreFormatError(message)
    paths = desc[paths_start:].split(b"\0")[:-1]
    if len(paths) < count:
        message = f"NT_FILE has {count} entries and only {len(paths)} paths"
        raise CoreFormatError(message)
    entries = _ENTRY.iter_unpack(desc[_HEADER.size : paths_start])
    return [
        MappedFile(start, end, offset_pages * page_size, path)
        for (start, end, offset_pages), path in zip(entries, paths, strict=False)
    ]
