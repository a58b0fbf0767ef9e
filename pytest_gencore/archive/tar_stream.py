"""Read the members of a tar file one after the other: the subset of POSIX pax that archives are made of.

Formats: pax(1); for sparse members the GNU tar manual, "PAX Format, Version 1.0". The module ``tarfile`` is
not used because it takes as much memory as a header asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pytest_gencore.archive.names import MEMBERS_LIMIT, NAMES_LIMIT
from pytest_gencore.archive.pax import parse_number, parse_records
from pytest_gencore.archive.sparse_map import EXTENTS_LIMIT, read_sparse_map
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from pytest_gencore.archive.gzip_stream import GzipStream

Kind = Literal["file", "directory", "link"]

BLOCK: Final = 512
_PAX_LIMIT: Final = 64 << 10
_ALL_PAX_LIMIT: Final = NAMES_LIMIT + (1 << 20)
"""Bytes of all pax headers together: they hold names, and little else."""
_PADDING_LIMIT: Final = 64 << 10
"""Zeros behind the end; tar pads to 10 KiB."""
_SIZE_LIMIT: Final = 1 << 62
_KINDS: Final[dict[bytes, Kind]] = {b"0": "file", b"\0": "file", b"5": "directory", b"1": "link"}
_REFUSED: Final = {
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a FIFO",
    b"g": "a global header",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One member, as its headers describe it; nothing of it is checked against the manifest."""

    name: str
    """As in the archive, with the top folder; bytes that are not UTF-8 as ``os.fsdecode`` gives them."""
    kind: Kind
    size: int
    """Bytes of the file, with holes."""
    stored_size: int
    """Bytes of contents in the archive, without holes."""
    mtime: int
    """Seconds since 1970."""
    link_target: str
    """Of a hard link, the name of a member."""
    extents: array[int] | None
    """Of a sparse file: offset, length, offset, length, ..., sorted and without overlap."""


class TarStream:
    """The members of an archive, in order; memory is bounded whatever the headers say."""

    def __init__(self, stream: GzipStream) -> None:
        self._stream = stream
        self._content_left = 0
        self._padding = 0
        self._at_start = True
        self._pax_bytes = self._extents = 0

    def members(self) -> Iterator[Member]:
        """Yield each member; what ``read`` has left of its contents is skipped. Raises ArchiveError."""
        count = names = 0
        while (member := self._next()) is not None:
            count += 1
            names += len(member.name)
            if count > MEMBERS_LIMIT or names > NAMES_LIMIT:
                raise ArchiveError("the archive has too many members")
            yield member

    def read(self, size: int) -> memoryview:
        """Return at most ``size`` bytes of the current member's contents, at least one; none at its end."""
        size = min(size, self._content_left)
        if not size:
            return memoryview(b"")
        data = self._stream.read(size)
        if not data:
            raise ArchiveError("the archive is truncated: it ends within a member")
        self._content_left -= len(data)
        return data

    def read_exactly(self, size: int) -> bytes:
        """Return that many bytes of the current member's contents. Raises ArchiveError if it has fewer."""
        if size > self._content_left:
            raise ArchiveError("the archive is corrupt: a member is shorter than its contents say")
        parts = []
        while size:
            part = self.read(size)
            parts.append(bytes(part))
            size -= len(part)
        return b"".join(parts)

    def _next(self) -> Member | None:
        self._finish_contents()
        header = self._read_header()
        if header is None:
            return None
        records: dict[str, str] = {}
        if header[156:157] == b"x":
            size = parse_number(header[124:136])
            if size > _PAX_LIMIT:
                message = f"a member has {size} bytes of pax headers; the limit is {_PAX_LIMIT}"
                raise ArchiveError(message)
            self._pax_bytes += size
            if self._pax_bytes > _ALL_PAX_LIMIT:
                message = f"the archive has more than {_ALL_PAX_LIMIT} bytes of pax headers"
                raise ArchiveError(message)
            self._begin_contents(size)
            records = parse_records(self.read_exactly(size))
            self._finish_contents()
            header = self._read_header()
            if header is None:
                raise ArchiveError("the archive is corrupt: a pax header describes no member")
        return self._describe(header, records)

    def _describe(self, header: bytes, records: dict[str, str]) -> Member:
        kind = _KINDS.get(header[156:157])
        name = records.get("GNU.sparse.name") or records.get("path") or _name_in(header)
        if kind is None:
            what = _REFUSED.get(header[156:157], f"of type {header[156:157]!r}")
            message = f"{name!r} is {what}; archives hold files, folders and hard links"
            raise ArchiveError(message)
        stored = _number_of(records["size"]) if "size" in records else parse_number(header[124:136])
        if kind != "file":
            stored = 0
        self._begin_contents(stored)
        size, extents = stored, None
        if "GNU.sparse.major" in records or "GNU.sparse.realsize" in records:
            if (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor")) != ("1", "0"):
                message = f"{name!r} is sparse in an unknown way"
                raise ArchiveError(message)
            size = _number_of(records.get("GNU.sparse.realsize", ""))
            extents = read_sparse_map(self.read_exactly, size)
            self._extents += len(extents) // 2
            if self._extents > EXTENTS_LIMIT:
                message = f"the sparse files of the archive have more than {EXTENTS_LIMIT} extents"
                raise ArchiveError(message)
            stored = sum(extents[1::2])
            if stored != self._content_left:
                message = f"the archive is corrupt: the map of {name!r} does not fit its contents"
                raise ArchiveError(message)
        link = records.get("linkpath") or _text(header[157:257])
        mtime = parse_number(header[136:148])
        return Member(name, kind, size, stored, mtime, link if kind == "link" else "", extents)

    def _begin_contents(self, size: int) -> None:
        if size > _SIZE_LIMIT:
            raise ArchiveError("the archive is corrupt: a member's size is impossible")
        self._content_left = size
        self._padding = -size % BLOCK

    def _finish_contents(self) -> None:
        while self._content_left:
            self.read(self._content_left)
        self._content_left, self._padding = self._padding, 0
        while self._content_left:
            self.read(self._content_left)

    def _read_header(self) -> bytes | None:
        """Return the next header, None at a proper end of the archive."""
        self._content_left = BLOCK
        block = self.read_exactly(BLOCK)
        if not any(block):
            self._check_end()
            return None
        computed = sum(block) - sum(block[148:156]) + 8 * ord(" ")
        if block[257:262] != b"ustar" or parse_number(block[148:156]) != computed:
            message = (
                "the archive is corrupt: a header is damaged" if not self._at_start else "not a tar file"
            )
            raise ArchiveError(message)
        self._at_start = False
        return block

    def _check_end(self) -> None:
        seen = 0
        while data := self._stream.read(_PADDING_LIMIT):
            seen += len(data)
            if seen > _PADDING_LIMIT or any(data):
                raise ArchiveError("the archive is corrupt: there is something behind its end")
        if seen < BLOCK:
            raise ArchiveError("the archive is truncated: its end mark is missing")


def _name_in(header: bytes) -> str:
    name, prefix = _text(header[0:100]), _text(header[345:500])
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number_of(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 19:
        raise ArchiveError("the archive is corrupt: invalid number in a pax header")
    return int(text)
