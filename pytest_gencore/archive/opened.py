"""An archive whose manifest has been read: what the reader and the unpacker begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gencore.archive.names import inner_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.archive.manifest import Manifest
    from pytest_gencore.archive.tar_stream import Member, TarStream


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
