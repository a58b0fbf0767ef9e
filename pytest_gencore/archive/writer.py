"""Write the archive: a ``.tar.gz`` in one pass, with a manifest in front that is filled in last.

The file is several gzip members, which every gzip reader joins (RFC 1952, section 2.2). The first holds the
manifest, and an extra field (section 2.3.1.1) that fills a room of fixed size: so it can be written again in
place. Everything else becomes members of a MiB, which several threads compress while the next is read.
"""

from __future__ import annotations

import os
import struct
import zlib
from abc import abstractmethod
from typing import TYPE_CHECKING, BinaryIO, Final, final

from pytest_gencore.archive.gzip_writer import GZIP, find_crc32, write_all
from pytest_gencore.archive.names import MANIFEST_NAME
from pytest_gencore.archive.tar_writer import BLOCK, TarWriter, count_blocks
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_STORED_LIMIT: Final = 0xFFFF
_GZIP_HEADER: Final = bytes.fromhex("1f8b0800000000000003")
_WITH_FIELD: Final = bytes.fromhex("1f8b0804000000000003")
_WITH_BOTH: Final = bytes.fromhex("1f8b0814000000000003")
"""Also with a comment."""
_FIELD_LIMIT: Final = 0xFFFF - 4
_COMPRESSES: Final = 4
"""What comes late are sentences: their room in the file is smaller by this."""
_STORED_END: Final = bytes.fromhex("010000ffff")
"""The last block, which is empty."""


class ManifestTooLongError(ArchiveError):
    """A manifest does not fit where there is room for it."""


class FileWriter(TarWriter):
    """Writes an archive into a file; a context manager that is aborted by an exception, and else closed.

    The order of calls is ``reserve_manifest``, then members, then ``finish``.
    """

    def __init__(
        self,
        file: BinaryIO,
        output: int,
        top: str,
        mtime: int,
        on_progress: Callable[[int], None] | None,
    ) -> None:
        """Begin an archive in ``file``; its members go to the descriptor ``output``."""
        super().__init__(output, top, mtime, on_progress)
        self._descriptor = file.fileno()
        self._manifest_size = 0
        self._manifest_tar_size = 0
        self._reserved = 0
        self._is_closed = False

    @abstractmethod
    def __enter__(self) -> FileWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def reserve_manifest(self, text: bytes, slack: int) -> None:
        """Write the manifest as the first member, with room for ``slack`` bytes more if they compress well.

        Its JSON is padded with spaces. If the archive is never finished, this manifest is what it has.
        """
        if self._manifest_size or self._output.bytes_in:
            raise ValueError("the manifest comes first and once")
        self._manifest_size = count_blocks(len(text) + 1 + slack) * BLOCK
        self._manifest_tar_size = len(self._header(MANIFEST_NAME, self._manifest_size)) + self._manifest_size
        compressed = self._compress_manifest(text)
        self._reserved = len(fill_gzip(compressed)) + slack // _COMPRESSES
        write_all(self._descriptor, fill_gzip(compressed, self._reserved))

    def rewrite_manifest(self, text: bytes) -> None:
        """Write the manifest again, in place; before or after the end. Raises ManifestTooLongError."""
        if len(text) >= self._manifest_size:
            message = f"the manifest has {len(text)} bytes, the room for it {self._manifest_size - 1}"
            raise ManifestTooLongError(message)
        member = fill_gzip(self._compress_manifest(text), self._reserved)
        if len(member) > self._reserved:
            message = f"the manifest has {len(member)} bytes, the room for it {self._reserved}"
            raise ManifestTooLongError(message)
        write_at(self._descriptor, member, 0)

    @abstractmethod
    def finish(self, describe: Callable[[], bytes]) -> None:
        """Write the end, and the manifest that ``describe`` makes then. Raises ManifestTooLongError last."""

    def close(self) -> None:
        """Write the end, if that was not done; the file stays open, and nothing is synced."""
        if not self._is_closed:
            self._close()
            self._is_closed = True

    @abstractmethod
    def _close(self) -> None: ...

    def _compress_manifest(self, text: bytes) -> bytes:
        padded = text.ljust(self._manifest_size - 1) + b"\n"
        compressor = zlib.compressobj(wbits=GZIP)
        header = self._header(MANIFEST_NAME, self._manifest_size)
        return compressor.compress(header + padded) + compressor.flush()


@final
class ArchiveWriter(FileWriter):
    """Writes an archive that everybody can read."""

    def __init__(
        self,
        file: BinaryIO,
        top: str,
        mtime: int,
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Begin an archive in ``file``, a regular file at offset 0, not opened for appending.

        Nothing but this object may write to the file. ``top`` is the folder that all members are in;
        ``on_progress`` is called now and then with the number of bytes that went into the compressor.
        """
        super().__init__(file, file.fileno(), top, mtime, on_progress)

    def __enter__(self) -> ArchiveWriter:
        return self

    @property
    def bytes_out(self) -> int:
        """Size of the file so far."""
        return self._reserved + self._output.bytes_out

    def finish(self, describe: Callable[[], bytes]) -> None:
        """Write the end, then the manifest that ``describe`` makes. Raises ManifestTooLongError last."""
        self.close()
        self.rewrite_manifest(describe())

    def _close(self) -> None:
        self._finish_tar(self._manifest_tar_size)


def fill_gzip(member: bytes, size: int = 0) -> bytes:
    """Return a gzip member that has a plain header as one that has ``size`` bytes, or more if it must.

    What an extra field cannot take is in a comment: the second choice, as Go reads none above 512 bytes.
    """
    body = member[len(_GZIP_HEADER) :]
    room = max(0, size - len(_WITH_FIELD) - 6 - len(body))
    field, rest = min(room, _FIELD_LIMIT), max(0, room - _FIELD_LIMIT)
    comment = (b" " * rest)[1:] + b"\0" if rest else b""
    header = _WITH_BOTH if comment else _WITH_FIELD
    return header + struct.pack("<H2sH", 4 + field, b"gc", field) + bytes(field) + comment + body


def stored_gzip(*pieces: bytes) -> bytes:
    """Wrap data as a gzip member, not compressed; its size depends on those of the pieces alone."""
    return b"".join(list_stored(*pieces))


def list_stored(*pieces: bytes) -> list[bytes | memoryview]:
    """Return what ``stored_gzip`` joins: the pieces are not copied."""
    parts: list[bytes | memoryview] = [_GZIP_HEADER]
    checksum = size = 0
    crc32 = find_crc32()
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), _STORED_LIMIT):
            block = view[start : start + _STORED_LIMIT]
            parts += (struct.pack("<BHH", 0, len(block), len(block) ^ 0xFFFF), block)
        checksum = crc32(piece, checksum)
        size += len(view)
    parts.append(_STORED_END + struct.pack("<II", checksum, size & 0xFFFFFFFF))
    return parts


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write everything at an offset; raises OSError."""
    if not hasattr(os, "pwrite"):  # on Windows
        before = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, offset, os.SEEK_SET)
        write_all(descriptor, data)
        os.lseek(descriptor, before, os.SEEK_SET)
        return
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written
