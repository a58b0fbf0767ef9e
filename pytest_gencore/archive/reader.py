"""Open an archive: its manifest at once, its texts and files when they are asked for."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_gencore.archive.gzip_stream import GzipStream
from pytest_gencore.archive.manifest import MANIFEST_LIMIT, Manifest, parse_manifest
from pytest_gencore.archive.tar_stream import Member, TarStream
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEXT_LIMIT: Final = 4 << 20
"""Bytes of a text that are read; the rest is left out with a line that says so."""
_HEADERS_LIMIT: Final = 256 << 10
_TOP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,199}")
_DEPTH_LIMIT: Final = 100
_NAME_LIMIT: Final = 4000
_SHOWN: Final = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CORE_NAME: Final = "core"
_BEFORE_CORE_LIMIT: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive whose manifest is known and valid; the rest of the file may still turn out to be damaged."""

    path: Path
    size: int
    """Bytes of the file."""
    manifest: Manifest

    def stacks(self) -> str | None:
        """Return ``stacks.txt``, None if the archive has none.

        The text is as untrusted as the archive: it can hold control characters. Raises ArchiveError.
        """
        return self.read_text("stacks.txt")

    def failure(self) -> str | None:
        """Return ``failure.txt`` as ``stacks`` returns its text; None if the trigger was no failure."""
        return self.read_text("failure.txt")

    def read_text(self, name: str) -> str | None:
        """Return a text that comes before the core, None if there is none; raises ArchiveError.

        At most ``TEXT_LIMIT`` bytes are read; bytes that are not UTF-8 become U+FFFD.
        """
        with open_archive(self.path) as opened:
            seen = 0
            for member in opened.members:
                inner = opened.inner_name(member)
                seen += member.stored_size
                if inner == _CORE_NAME or seen > _BEFORE_CORE_LIMIT:
                    break
                if inner == name and member.kind == "file" and member.extents is None:
                    return _read_text(opened.tar, member)
        return None

    def unpack(self, directory: Path, progress: Callable[[int, int], None] | None = None) -> Path:
        """Unpack everything into a new private folder of the archive's name in ``directory``; return it.

        ``progress`` is called with bytes written and bytes expected. Raises ArchiveError; then the folder is
        not there.
        """
        from pytest_gencore.archive.unpacker import unpack

        return unpack(self.path, directory, progress)


@dataclass(frozen=True, slots=True)
class OpenArchive:
    """An archive whose manifest has been read; the stream is behind it."""

    manifest: Manifest
    manifest_text: bytes
    mtime: int
    tar: TarStream
    members: Iterator[Member]
    """Those behind the manifest."""

    def inner_name(self, member: Member) -> str:
        """Return a member's name below the top folder, empty for that itself; raises ArchiveError."""
        return inner_name(self.manifest.name, member.name)


def read_archive(path: str | os.PathLike[str]) -> Archive:
    """Read the manifest of an archive, and no more than that of the file.

    Raises ArchiveError if the file is no archive, damaged, or made by a later version; OSError if it cannot
    be opened.
    """
    path = Path(path)
    with open_archive(path) as opened:
        return Archive(path, path.stat().st_size, opened.manifest)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[OpenArchive]:
    """Open a file and read its manifest; raises as ``read_archive``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would wait for a writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArchiveError("not a regular file")
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        stream = GzipStream(file, input_limit=MANIFEST_LIMIT + _HEADERS_LIMIT)
        tar = TarStream(stream)
        members = tar.members()
        first = next(members, None)
        top, slash, name = first.name.partition("/") if first else ("", "", "")
        if first is None or slash + name != "/gencore.json" or not _TOP.fullmatch(top):
            raise ArchiveError("not an archive of pytest-gencore: its first member is no manifest")
        if first.kind != "file" or first.extents is not None or first.size > MANIFEST_LIMIT:
            message = f"the manifest is no file of at most {MANIFEST_LIMIT} bytes"
            raise ArchiveError(message)
        text = tar.read_exactly(first.size)
        manifest = parse_manifest(text)
        if manifest.name != top:
            raise ArchiveError("the archive's top folder is not what its manifest says")
        stream.lift_input_limit()
        yield OpenArchive(manifest, text, first.mtime, tar, members)


def inner_name(top: str, name: str) -> str:
    """Return a name below the top folder, empty for that itself; raises ArchiveError if it is elsewhere.

    Refused are absolute names, ``..``, ``.`` and empty components, control characters, long and deep paths.
    """
    first, *inner = name.removesuffix("/").split("/")
    is_safe = all(part not in {"", ".", ".."} for part in inner) and not _CONTROL.search(name)
    if first != top or not is_safe or len(inner) > _DEPTH_LIMIT or len(name) > _NAME_LIMIT:
        message = "the archive holds a file outside of its folder, or with a name that is not safe"
        raise ArchiveError(f"{message}: {name[:_SHOWN]!r}")  # noqa: EM102 - one message in two parts
    return "/".join(inner)


def _read_text(tar: TarStream, member: Member) -> str:
    text = tar.read_exactly(min(member.size, TEXT_LIMIT)).decode("utf-8", "replace")
    if member.size > TEXT_LIMIT:
        text += f"\n[{member.size - TEXT_LIMIT} bytes more are in the archive]\n"
    return text
