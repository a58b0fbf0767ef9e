"""Libraries that earlier archives of the run hold compressed: copied from there, not compressed again.

Each finished archive has an index in the run's folder. An archive that was moved, changed or removed since is
not used, and costs nothing but the time to compress again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.archive.gzip_writer import Cut
    from pytest_gencore.collector.files.libraries import Library

_SUFFIX: Final = ".packs"
_GZIP_MAGIC: Final = b"\x1f\x8b\x08"
_SIZE_FIELD: Final = struct.Struct("<I")
_TAR_BLOCK: Final = 512


@dataclass(frozen=True, slots=True)
class Pack:
    """A library in an archive that is finished."""

    descriptor: int
    offset: int
    length: int


def key_of(library: Library) -> str | None:
    """Return what two files with the same contents have in common; None if that cannot be known."""
    try:
        assert library.source is not None
        status = os.fstat(library.source.fileno())
    except OSError:  # put together from memory
        return None
    facts = (
        *(library.path, library.build_id, library.size),
        *(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns),
    )
    return hashlib.sha256(repr(facts).encode(errors="surrogatepass")).hexdigest()[:32]


class Packs:
    """What earlier archives have; as a context manager it closes them."""

    def __init__(self, directory: Path, run_folder: Path) -> None:
        """Read the indexes; raises nothing."""
        self._stack = contextlib.ExitStack()
        self._packs: dict[str, Pack] = {}
        for path in sorted(run_folder.glob(f"*{_SUFFIX}")):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                self._read(directory, json.loads(path.read_bytes()))

    def __enter__(self) -> Packs:  # noqa: PYI034 - not made for subclasses
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def find(self, key: str | None, size: int) -> Pack | None:
        """Return where a library of so many bytes is; None if it must be compressed."""
        pack = self._packs.get(key) if key else None
        return pack if pack is not None and _is_whole(pack, size) else None

    def _read(self, directory: Path, index: dict[str, Any]) -> None:
        if all(key in self._packs for key in index["packs"]):
            return
        name = str(index["archive"])
        path = directory / name.replace("/", "_")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._stack.callback(os.close, descriptor)
        if _identity(os.fstat(descriptor)) != index["identity"]:
            return
        for key, (offset, length) in index["packs"].items():
            self._packs.setdefault(str(key), Pack(descriptor, int(offset), int(length)))


class PackLog:
    """Where the archive under way has its libraries."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[Cut, Cut | int]] = {}

    def add(self, key: str | None, start: Cut, end: Cut | int) -> None:
        """Remember a library: from a cut to another one, or so many bytes from it."""
        if key:
            self._places[key] = (start, end)

    def write(self, archive: Path, run_folder: Path) -> None:
        """Write the index of the finished archive, if it has libraries; raises OSError."""
        packs = {}
        for key, (start, end) in self._places.items():
            if start.offset is not None:
                length = end if isinstance(end, int) else (end.offset or 0) - start.offset
                packs[key] = (start.offset, length)
        if not packs:
            return
        index = {"archive": archive.name, "identity": _identity(archive.stat()), "packs": packs}
        # In one step as far as readers can see: what is not whole is no JSON.
        name = archive.name.removesuffix(".tar.gz")
        (run_folder / f"{name}{_SUFFIX}").write_text(json.dumps(index))


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]


def _is_whole(pack: Pack, size: int) -> bool:
    """Tell whether a gzip member of so many bytes, padded as in tar, seems to be there."""
    padded = size + -size % _TAR_BLOCK
    try:
        head = os.pread(pack.descriptor, len(_GZIP_MAGIC), pack.offset)
        tail = os.pread(pack.descriptor, _SIZE_FIELD.size, pack.offset + pack.length - _SIZE_FIELD.size)
    except OSError:
        return False
    return head == _GZIP_MAGIC and tail == _SIZE_FIELD.pack(padded & 0xFFFFFFFF)
