"""Decompress a gzip file of one or more members (RFC 1952), in bounded pieces."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from zlib import _Decompress

_INPUT_PIECE: Final = 32 << 10
_OUTPUT_PIECE: Final = 256 << 10
_SMALL_MEMBERS_LIMIT: Final = 65_536
_SMALL: Final = 64 << 10
"""Bytes in a member. zlib copies what follows it, so endless empty ones would take endless time."""


class Readable(Protocol):
    """What a file is read with."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""


class GzipStream:
    """What the gzip members of a file hold, joined; checksums are checked at each member's end."""

    def __init__(self, file: Readable, *, input_limit: int | None = None) -> None:
        """Read ``file`` from where it is; raise ArchiveError after ``input_limit`` compressed bytes."""
        self._file = file
        self._input_left = input_limit
        self._decompressor: _Decompress | None = None
        self._members = 0
        self._small_members = 0
        self._member_size = 0
        self._pending = b""
        self._output = memoryview(b"")

    def read(self, size: int) -> memoryview:
        """Return at most ``size`` bytes, at least one; none at the end. Raises ArchiveError."""
        if not self._output:
            self._output = memoryview(self._decompress())
        data, self._output = self._output[:size], self._output[size:]
        return data

    def lift_input_limit(self) -> None:
        """Read as much as there is from now on."""
        self._input_left = None

    def _decompress(self) -> bytes:
        while True:
            if self._decompressor is None and not self._begin_member():
                return b""
            assert self._decompressor is not None
            try:
                data = self._decompressor.decompress(self._pending, _OUTPUT_PIECE)
            except zlib.error as error:
                message = f"the archive is corrupt: {error}"
                raise ArchiveError(message) from error
            self._member_size += len(data)
            if self._decompressor.eof:
                self._small_members += self._member_size < _SMALL
                self._pending = self._decompressor.unused_data
                self._decompressor = None
            else:
                self._pending = self._decompressor.unconsumed_tail
            if data:
                return data
            if self._decompressor is not None and not self._pending and not self._refill():
                raise ArchiveError("the archive is truncated: it ends within its compressed data")

    def _begin_member(self) -> bool:
        if not self._pending and not self._refill():
            if not self._members:
                raise ArchiveError("the file is empty")
            return False
        self._members += 1
        self._member_size = 0
        if self._small_members >= _SMALL_MEMBERS_LIMIT:
            raise ArchiveError("the archive has too many gzip members")
        if self._members == 1 and self._pending[0] != 0x1F:
            message = f"not a gzip file{_recognize(self._pending)}"
            raise ArchiveError(message)
        self._decompressor = zlib.decompressobj(31)
        return True

    def _refill(self) -> bool:
        if self._input_left is not None:
            if self._input_left <= 0:
                raise ArchiveError("the manifest does not come within the limit of its size")
            self._input_left -= _INPUT_PIECE
        self._pending = self._file.read(_INPUT_PIECE)
        return bool(self._pending)


def _recognize(head: bytes) -> str:
    """Say what else a file is that browsers and CI systems make of an archive."""
    if head.startswith(b"PK\3\4"):
        return ", but a zip file: unzip it first"
    if head[257:262] == b"ustar":
        return ", but a tar file that is not compressed: compress it with gzip first"
    return ""
