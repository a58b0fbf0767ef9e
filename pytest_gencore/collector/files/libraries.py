"""The files that a core needs on another machine: the executable and every mapped ELF file."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pytest_gencore.collector.source.link_map import LinkMap, find_aliases
from pytest_gencore.corefile.elffile import build_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot

_ELF_MAGIC = b"\x7fELF"
_PIECE = 1024 * 1024
_COMPARED = 4096
_RECONSTRUCTED_LIMIT = 1 << 30


@dataclass(slots=True)
class Library:
    """One ELF file of the captured process."""

    path: str
    """Absolute, as the process had it."""
    size: int
    build_id: str | None
    source: BinaryIO | None
    """Opened when the capture began; None if it cannot be had."""
    note: str = ""
    """Why it is not included, or where it came from if not from its path."""
    aliases: tuple[str, ...] = ()
    """Other absolute names under which the dynamic loader has it."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the contents."""
        assert self.source is not None
        self.source.seek(0)
        while piece := self.source.read(_PIECE):
            yield piece


def gather_libraries(mappings: list[Mapping], snapshot: Snapshot, link_map: LinkMap) -> list[Library]:
    """Open every mapped ELF file, sorted by path; one that cannot be had says why.

    The snapshot must still be alive: deleted files are read through it.
    """
    aliases: dict[str, list[str]] = {}
    for name, target in find_aliases(link_map, mappings).items():
        aliases.setdefault(os.fsdecode(target), []).append(os.fsdecode(name))
    files: dict[tuple[bytes, int, tuple[int, int]], list[Mapping]] = {}
    for mapping in mappings:
        if mapping.is_file and not mapping.path.startswith((b"/memfd:", b"/SYSV", b"/dev/")):
            files.setdefault((mapping.path, mapping.inode, mapping.device), []).append(mapping)
    libraries = [
        library for parts in files.values() if (library := _open_library(parts, snapshot)) is not None
    ]
    for library in libraries:
        library.aliases = tuple(aliases.get(library.path, ()))
    return sorted(libraries, key=lambda library: library.path)


def _open_library(parts: list[Mapping], snapshot: Snapshot) -> Library | None:
    """Return the library that these mappings belong to, None if it is no ELF file."""
    head = _head_in_memory(parts, snapshot)
    if head is not None and not head.startswith(_ELF_MAGIC):
        return None
    path = os.fsdecode(parts[0].path)
    reasons = []
    for name, note in _places(parts, snapshot):
        try:
            file = open(name, "rb")  # noqa: SIM115, PTH123 - kept open: the file may be deleted meanwhile
        except OSError as error:
            reasons.append(f"{name}: {error.strerror}")
            continue
        start = file.read(_COMPARED)
        if head is None and not start.startswith(_ELF_MAGIC):
            file.close()
            return None
        if head is not None and start != head[: len(start)]:
            file.close()
            reasons.append(f"{name}: another file than the one that is mapped")
            continue
        return Library(path, os.fstat(file.fileno()).st_size, _build_id(file), file, note)
    if head is None:
        return None  # never seen to be an ELF file
    image = _image_from_memory(parts, snapshot)
    if image is not None:
        note = (
            "put together from memory: sections that are not mapped (symbols, debug information) are missing"
        )
        return Library(path, len(image.getvalue()), _build_id(image), image, note)
    return Library(path, 0, None, None, "; ".join(reasons))


def _places(parts: list[Mapping], snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    path = os.fsdecode(parts[0].path)
    if not parts[0].deleted:
        yield path, ""
        yield f"/proc/{snapshot.pid}/root{path}", "through the root directory of the process"
    for part in parts:
        yield (
            f"/proc/{snapshot.pid}/map_files/{part.start:x}-{part.end:x}",
            "deleted or replaced: read through the mapping",
        )


def _head_in_memory(parts: list[Mapping], snapshot: Snapshot) -> bytes | None:
    """Return the beginning of the file as it is mapped, None if it is not mapped readable and unchanged."""
    for part in parts:
        if part.offset == 0 and part.readable and not part.writable:
            return snapshot.read(part.start, min(_COMPARED, part.size))
    return None


def _image_from_memory(parts: list[Mapping], snapshot: Snapshot) -> io.BytesIO | None:
    """Rebuild a file from its mappings; the kernel shows deleted files only to privileged readers."""
    size = max(part.offset + part.size for part in parts)
    if size > _RECONSTRUCTED_LIMIT:
        return None
    image = bytearray(size)
    for part in sorted(parts, key=lambda part: part.writable, reverse=True):  # unchanged pages win
        if part.readable:
            image[part.offset : part.offset + part.size] = snapshot.read(part.start, part.size)
    return io.BytesIO(bytes(image))


def _build_id(file: BinaryIO) -> str | None:
    try:
        return build_id_of(file)
    except (OSError, ValueError):
        return None
