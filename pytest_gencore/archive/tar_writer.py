"""Write members of a tar file into a stream of gzip members: POSIX pax, see pax(1).

Sparse members are those of the GNU tar manual's "PAX Format, Version 1.0".
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Final

from pytest_gencore.archive.gzip_writer import CompressedOutput
from pytest_gencore.archive.names import find_fault
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_gencore.archive.gzip_writer import Data, Reader

BLOCK: Final = 512
_END: Final = 2 * BLOCK
_OCTAL_SIZE_LIMIT: Final = 8**11
"""Sizes from here on do not fit the octal field of a tar header."""
_ZEROS: Final = bytes(64 << 10)


class TarWriter:
    """Writes members one after the other; all are in one folder."""

    def __init__(
        self, descriptor: int, top: str, mtime: int, on_progress: Callable[[int], None] | None
    ) -> None:
        """``top`` is the folder; ``on_progress`` is called now and then with the bytes that went in."""
        self._top = top
        self._mtime = mtime
        self._output = CompressedOutput(descriptor, on_progress)

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
        sparse_map = sparse_map.ljust(count_blocks(len(sparse_map)) * BLOCK, b"\0")
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
        self._write_zeros(-size % BLOCK)

    def add_top_folder(self) -> None:
        """Add the folder that all members are in, so that it is unpacked for its owner only."""
        self._output.write(self._folder_header())

    def add_link(self, name: str, target: str) -> None:
        """Add another name for a file that is in the archive already, as a hard link."""
        info = self._info(name, 0o600)
        info.type = tarfile.LNKTYPE
        info.linkname = self._path(target)
        self._output.write(_encode(info))

    def abort(self) -> None:
        """Stop without finishing; what was written is left as it is."""
        self._output.abort()

    def _finish_tar(self, size_before: int = 0) -> None:
        """Write tar's end; before the members there are ``size_before`` bytes. All is compressed then."""
        self._write_zeros(end_size(size_before + self._output.bytes_in))
        self._output.close()

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

    def _folder_header(self) -> bytes:
        info = tarfile.TarInfo(self._top)
        info.mode = 0o700
        info.mtime = self._mtime
        info.type = tarfile.DIRTYPE
        return _encode(info)

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
                self._write_zeros(left + -size % BLOCK)
        return left

    def _write_zeros(self, count: int) -> None:
        while count > 0:
            self._output.write(_ZEROS[:count])
            count -= len(_ZEROS)


def end_size(size: int) -> int:
    """Return how many zeros end a tar file whose members take ``size`` bytes."""
    return _END + -(size + _END) % tarfile.RECORDSIZE


def count_blocks(size: int) -> int:
    """Return how many blocks of a tar file so many bytes take."""
    return -(-size // BLOCK)


def _encode(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _with_binary_size(header: bytes, size: int) -> bytes:
    """Put the size into the last block, the one of the file itself, in base 256 (GNU tar manual)."""
    block = bytearray(header[-BLOCK:])
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return header[:-BLOCK] + bytes(block)


def _check_extents(real_size: int, extents: Iterable[tuple[int, int]]) -> None:
    end = previous_length = 0
    for offset, length in extents:
        if previous_length % BLOCK:
            raise ValueError("only the last extent may have a length that is no multiple of 512")
        if offset < end or length <= 0:
            raise ValueError("extents are not sorted, overlap or are empty")
        end, previous_length = offset + length, length
    if end > real_size:
        raise ValueError("extents reach beyond the end of the file")
