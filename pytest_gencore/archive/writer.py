"""Write the archive: a ``.tar.gz`` in one pass, with a manifest in front that is filled in last.

The file is several gzip members, which every gzip reader joins (RFC 1952, section 2.2). The first holds the
manifest in stored blocks (RFC 1951, section 3.2.4), so that it can be written again in place at the same
size. Everything else becomes members of a MiB, which several threads compress while the next is read.

Members are POSIX pax (pax(1)); sparse ones are the GNU tar manual's "PAX Format, Version 1.0".
"""

from __future__ import annotations

import os
import struct
import tarfile
import zlib
from typing import TYPE_CHECKING, BinaryIO, Final, final

from pytest_gencore.archive.gzip_writer import CompressedOutput, write_all
from pytest_gencore.archive.names import find_fault
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from pytest_gencore.archive.gzip_writer import Data, Reader

MANIFEST_NAME: Final = "gencore.json"

_TAR_BLOCK: Final = 512
_STORED_LIMIT: Final = 0xFFFF
_GZIP_HEADER: Final = bytes.fromhex("1f8b0800000000000003")
_OCTAL_SIZE_LIMIT: Final = 8**11
"""Sizes from here on do not fit the octal field of a tar header."""

_ZEROS: Final = bytes(64 << 10)


@final
class ArchiveWriter:
    """Write members one after the other; as a context manager it closes, or aborts on an exception."""

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
        self._descriptor = file.fileno()
        self._top = top
        self._mtime = mtime
        self._manifest_size = 0
        self._manifest_tar_size = 0
        self._reserved = 0
        self._output = CompressedOutput(self._descriptor, on_progress)

    def __enter__(self) -> ArchiveWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @property
    def bytes_out(self) -> int:
        """Size of the file so far."""
        return self._reserved + self._output.bytes_out

    def reserve_manifest(self, text: bytes, slack: int) -> None:
        """Write the manifest as the first member, with room for ``slack`` bytes more.

        Its JSON is padded with spaces. If the archive is never finished, this manifest is what it has.
        """
        if self._manifest_size or self._output.bytes_in:
            raise ValueError("the manifest comes first and once")
        self._manifest_size = _blocks(len(text) + 1 + slack) * _TAR_BLOCK
        member = self._manifest_member(text)
        self._manifest_tar_size = len(self._header(MANIFEST_NAME, self._manifest_size)) + self._manifest_size
        self._reserved = len(member)
        write_all(self._descriptor, member)

    def rewrite_manifest(self, text: bytes) -> None:
        """Write the manifest again, in place; before or after ``close``. Raises ArchiveError if too long."""
        if len(text) >= self._manifest_size:
            message = f"the manifest has {len(text)} bytes, the room for it {self._manifest_size - 1}"
            raise ArchiveError(message)
        member = self._manifest_member(text)
        offset = 0
        while offset < len(member):
            offset += os.pwrite(self._descriptor, member[offset:], offset)

    def add_bytes(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Add a file with these contents."""
        self.add_stream(name, len(data), iter((data,)), mode)

    def add_stream(self, name: str, size: int, chunks: Iterator[Data], mode: int = 0o600) -> int:
        """Add a file of ``size`` bytes, read from ``chunks``; return how many bytes were missing.

        What is missing is filled with zeros. More bytes than ``size`` raise ArchiveError, and errors of
        ``chunks`` are passed on; in both cases the archive stays well-formed, with the member in it.
        """
        self._write_header(name, size, mode)
        return self._write_contents(name, size, chunks)

    def add_sparse(
        self,
        name: str,
        real_size: int,
        extents: Sequence[tuple[int, int]],
        read: Reader,
        mode: int = 0o600,
    ) -> None:
        """Add a file of which only the extents (offset, length) have contents; the rest are holes.

        ``read`` fills a buffer with what is at an offset; several threads call it, in any order, but none
        after this has returned. What it raises ends the archive. Extents are sorted; all lengths but the last
        are multiples of 512, because GNU tar reads each from a block boundary and Python from where the last
        one ended.
        """
        _check_extents(real_size, extents)
        table = list(extents)
        if not table or sum(table[-1]) < real_size:
            table.append((real_size, 0))  # else GNU tar leaves out the last hole
        numbers = "".join(f"{offset}\n{length}\n" for offset, length in table)
        sparse_map = f"{len(table)}\n{numbers}".encode()
        sparse_map = sparse_map.ljust(_blocks(len(sparse_map)) * _TAR_BLOCK, b"\0")
        size = sum(length for _, length in extents)
        attributes = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": self._path(name),
            "GNU.sparse.realsize": str(real_size),
        }
        self._write_header(f"GNUSparseFile.0/{name.lstrip('/')}", len(sparse_map) + size, mode, attributes)
        self._output.write(sparse_map)
        self._output.write_from(read, extents)
        self._write_zeros(-size % _TAR_BLOCK)

    def add_top_folder(self) -> None:
        """Add the folder that all members are in, so that it is unpacked for its owner only."""
        info = tarfile.TarInfo(self._top)
        info.mode = 0o700
        info.mtime = self._mtime
        info.type = tarfile.DIRTYPE
        self._output.write(_encode(info))

    def add_link(self, name: str, target: str) -> None:
        """Add another name for a file that is in the archive already, as a hard link."""
        info = self._info(name, 0o600)
        info.type = tarfile.LNKTYPE
        info.linkname = self._path(target)
        self._output.write(_encode(info))

    def close(self) -> None:
        """Write tar's end and finish the compression; the file stays open, and nothing is synced."""
        end = 2 * _TAR_BLOCK
        tar_size = self._manifest_tar_size + self._output.bytes_in + end
        self._write_zeros(end + -tar_size % tarfile.RECORDSIZE)
        self._output.close()

    def abort(self) -> None:
        """Stop without finishing; the file is left as it is."""
        self._output.abort()

    def _manifest_member(self, text: bytes) -> bytes:
        padded = text.ljust(self._manifest_size - 1) + b"\n"
        return _stored_gzip(self._header(MANIFEST_NAME, self._manifest_size) + padded)

    def _path(self, name: str) -> str:
        path = f"{self._top}/{name.lstrip('/')}"
        fault = find_fault(path)
        if fault:
            message = f"{name!r} cannot be in an archive: {fault}"
            raise ArchiveError(message)
        return path

    def _header(
        self, name: str, size: int, mode: int = 0o600, attributes: dict[str, str] | None = None
    ) -> bytes:
        info = self._info(name, mode)
        info.pax_headers = attributes or {}
        # Python's tarfile finds the member after a sparse one only if there is no pax "size": it would take
        # the real size for that of the contents. All readers understand GNU's binary size field.
        binary_size = attributes is not None and size >= _OCTAL_SIZE_LIMIT
        info.size = 0 if binary_size else size
        header = _encode(info)
        return _with_binary_size(header, size) if binary_size else header

    def _info(self, name: str, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(self._path(name))
        info.mode = mode
        info.mtime = self._mtime
        return info

    def _write_header(
        self, name: str, size: int, mode: int, attributes: dict[str, str] | None = None
    ) -> None:
        self._output.write(self._header(name, size, mode, attributes))

    def _write_contents(self, name: str, size: int, chunks: Iterator[Data]) -> int:
        left = size
        try:
            for chunk in chunks:
                view = memoryview(chunk).cast("B")
                self._output.write(view[:left])
                if len(view) > left:
                    left = 0
                    message = f"{name} is larger than the {size} bytes that it had"
                    raise ArchiveError(message)
                left -= len(view)
        finally:
            if not self._output.failed:
                self._write_zeros(left + -size % _TAR_BLOCK)
        return left

    def _write_zeros(self, count: int) -> None:
        while count > 0:
            self._output.write(_ZEROS[:count])
            count -= len(_ZEROS)


def _encode(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _stored_gzip(data: bytes) -> bytes:
    """Wrap data as a gzip member without compressing it."""
    parts = [_GZIP_HEADER]
    for start in range(0, max(1, len(data)), _STORED_LIMIT):
        piece = data[start : start + _STORED_LIMIT]
        is_last = start + len(piece) == len(data)
        parts += (struct.pack("<BHH", is_last, len(piece), len(piece) ^ 0xFFFF), piece)
    parts.append(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))
    return b"".join(parts)


def _with_binary_size(header: bytes, size: int) -> bytes:
    """Put the size into the last block, the one of the file itself, in base 256 (GNU tar manual)."""
    block = bytearray(header[-_TAR_BLOCK:])
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return header[:-_TAR_BLOCK] + bytes(block)


def _check_extents(real_size: int, extents: Iterable[tuple[int, int]]) -> None:
    end = previous_length = 0
    for offset, length in extents:
        if previous_length % _TAR_BLOCK:
            raise ValueError("only the last extent may have a length that is no multiple of 512")
        if offset < end or length <= 0:
            raise ValueError("extents are not sorted, overlap or are empty")
        end, previous_length = offset + length, length
    if end > real_size:
        raise ValueError("extents reach beyond the end of the file")


def _blocks(size: int) -> int:
    return -(-size // _TAR_BLOCK)
