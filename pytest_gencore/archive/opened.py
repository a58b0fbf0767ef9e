"""A file whose manifest has been read: what the reader and the unpacker begin with."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_gencore.archive.gzip_stream import GzipStream
from pytest_gencore.archive.manifest_parser import MANIFEST_LIMIT, parse_manifest
from pytest_gencore.archive.tar_stream import Member, TarStream
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_gencore.archive.manifest import Manifest


_HEADERS_LIMIT: Final = 256 << 10
_TOP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,199}")
_DEPTH_LIMIT: Final = 100
_NAME_LIMIT: Final = 4000
_SHOWN: Final = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[OpenArchive]:
    """Open a file and read its manifest; raises ArchiveError and OSError."""
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
            raise ArchiveError("not an archive of pytest-gencore: the first member is not a manifest")
        if first.kind != "file" or first.extents is not None or first.size > MANIFEST_LIMIT:
            message = f"the manifest is not a file of at most {MANIFEST_LIMIT} bytes"
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
