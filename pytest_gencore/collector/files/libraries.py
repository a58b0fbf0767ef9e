"""The files that a core needs on another machine: the executable and every mapped ELF file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

from pytest_gencore.archive.manifest import identity_of
from pytest_gencore.collector.source.link_map import LinkMap, find_aliases
from pytest_gencore.collector.source.regular_file import open_regular
from pytest_gencore.corefile.elffile import build_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot

_ELF_MAGIC = b"\x7fELF"
_PIECE = 1024 * 1024
_COMPARED = 4096

# Files and their mappings are the captured process's choice: what is taken of them is bounded.
_TOTAL_LIMIT: Final = 16 << 30
"""Bytes of all files; the smallest ones come first."""
_FILE_LIMIT: Final = 4 << 30
_ALIASES_LIMIT: Final = 16
_RECONSTRUCTED_LIMIT: Final = 1 << 30
"""Bytes of all files that are put together from memory: they stay in it."""


@dataclass(slots=True)
class Library:
    """One ELF file of the captured process."""

    path: str
    """Absolute, as the process had it."""
    size: int
    """Bytes when the capture began; as many are taken, whatever becomes of the file."""
    build_id: str | None
    source: BinaryIO | None
    """Opened when the capture began; None if it cannot be had."""
    note: str = ""
    """Why it is not included, or where it came from if not from its path."""
    aliases: tuple[str, ...] = ()
    """Other absolute names under which the dynamic loader has it."""
    sha256: str | None = None
    """Of its contents, if that is asked for."""
    is_unwanted: bool = False
    """Whether it is left out on purpose: nobody wants it in this archive."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the contents, at most ``size`` bytes; raises OSError."""
        assert self.source is not None
        self.source.seek(0)
        left = self.size
        while left and (piece := self.source.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece
        if not left and self.source.read(1):
            self.add_note("it has grown since the capture began: what is behind is left out")

    @property
    def identity(self) -> str | None:
        """By what its contents are known."""
        return identity_of(self.build_id, self.sha256)

    def read_digest(self) -> None:
        """Set ``sha256``, but of a file that has shrunk; raises OSError."""
        digest = hashlib.sha256()
        left = self.size
        for chunk in self.chunks():
            digest.update(chunk)
            left -= len(chunk)
        self.sha256 = None if left else digest.hexdigest()

    def add_note(self, text: str) -> None:
        """Say one thing more about it, once."""
        if text not in self.note:
            self.note = f"{self.note}; {text}" if self.note else text

    def leave_out(self, reason: str) -> None:
        """Close the file: it does not go into the archive."""
        if self.source is not None:
            self.source.close()
        self.source, self.note, self.aliases = None, reason, ()


def only_name(libraries: list[Library], reason: str) -> None:
    """Leave all of them out on purpose; ``reason`` is for the manifest."""
    for library in libraries:
        if library.source is not None:
            library.leave_out(reason)
            library.is_unwanted = True


def set_aside(libraries: list[Library], note: str) -> list[Library]:
    """Only name those in the archive that can be found by what they are known by; return them, to be kept.

    ``note`` is for the manifest. Those that cannot be read to their end stay.
    """
    aside = []
    for library in libraries:
        if library.source is None:
            continue
        if not library.build_id:
            with contextlib.suppress(OSError):
                library.read_digest()
        if library.identity:
            aside.append(replace(library))
            library.source, library.is_unwanted = None, True
            library.add_note(note)
    return aside


def gather_libraries(mappings: list[Mapping], snapshot: Snapshot, link_map: LinkMap) -> list[Library]:
    """Open every mapped ELF file, sorted by path; one that cannot be had, or is too large, says why.

    The snapshot must still be alive: deleted files are read through it.
    """
    aliases: dict[str, list[str]] = {}
    for name, target in find_aliases(link_map, mappings).items():
        aliases.setdefault(os.fsdecode(target), []).append(os.fsdecode(name))
    files: dict[tuple[bytes, int, tuple[int, int]], list[Mapping]] = {}
    for mapping in mappings:
        if mapping.is_file and not mapping.path.startswith((b"/memfd:", b"/SYSV", b"/dev/")):
            files.setdefault((mapping.path, mapping.inode, mapping.device), []).append(mapping)
    opener = _Opener(snapshot)
    libraries = [library for parts in files.values() if (library := opener.open(parts)) is not None]
    _leave_out_large(libraries)
    for library in libraries:
        names = aliases.get(library.path, [])
        library.aliases = tuple(names[:_ALIASES_LIMIT])
        if len(names) > _ALIASES_LIMIT:
            library.add_note(f"{len(names) - _ALIASES_LIMIT} of its other names are left out")
    return sorted(libraries, key=lambda library: library.path)


def _leave_out_large(libraries: list[Library]) -> None:
    left = _TOTAL_LIMIT
    for library in sorted(libraries, key=lambda library: library.size):
        if library.source is None:
            continue
        if library.size > min(left, _FILE_LIMIT):
            what = f"it is larger than {_FILE_LIMIT} bytes"
            if library.size <= _FILE_LIMIT:
                what = f"all libraries together are larger than {_TOTAL_LIMIT} bytes"
            library.leave_out(f"left out: {what}")
        else:
            left -= library.size


class _Opener:
    """Opens the libraries of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._reconstructed_left = _RECONSTRUCTED_LIMIT

    def open(self, parts: list[Mapping]) -> Library | None:
        """Return the library that these mappings belong to, None if it is no ELF file."""
        head = _head_in_memory(parts, self._snapshot)
        if head is not None and not head.startswith(_ELF_MAGIC):
            return None
        path = os.fsdecode(parts[0].path)
        reasons = []
        for name, note in _places(parts, self._snapshot):
            try:
                file = open_regular(name)
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
        image = self._image_from_memory(parts)
        if image is not None:
            note = (
                "put together from memory: sections that are not mapped (symbols, debug information) "
                "are missing"
            )
            return Library(path, len(image.getbuffer()), _build_id(image), image, note)
        reasons.append("too much memory to put it together from")
        return Library(path, 0, None, None, "; ".join(reasons))

    def _image_from_memory(self, parts: list[Mapping]) -> io.BytesIO | None:
        """Rebuild a file from its mappings; the kernel shows deleted files only to privileged readers."""
        size = max(part.offset + part.size for part in parts)
        if size > self._reconstructed_left:
            return None
        self._reconstructed_left -= size
        image = io.BytesIO(bytes(size))
        for part in sorted(parts, key=lambda part: part.writable, reverse=True):  # unchanged pages win
            if part.readable:
                with image.getbuffer() as buffer:
                    self._snapshot.read_into(part.start, buffer[part.offset : part.offset + part.size])
        return image


def _places(parts: list[Mapping], snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    path = os.fsdecode(parts[0].path)
    if not parts[0].deleted:
        yield path, ""
        yield f"/proc/{snapshot.pid}/root{path}", "through the root directory of the process"
    # All of them are mappings of the same file.
    yield (
        f"/proc/{snapshot.pid}/map_files/{parts[0].start:x}-{parts[0].end:x}",
        "deleted or replaced: read through the mapping",
    )


def _head_in_memory(parts: list[Mapping], snapshot: Snapshot) -> bytes | None:
    """Return the beginning of the file as it is mapped, None if it is not mapped readable and unchanged."""
    for part in parts:
        if part.offset == 0 and part.readable and not part.writable:
            return snapshot.read(part.start, min(_COMPARED, part.size))
    return None


def _build_id(file: BinaryIO) -> str | None:
    try:
        return build_id_of(file)
    except (OSError, ValueError):
        return None
