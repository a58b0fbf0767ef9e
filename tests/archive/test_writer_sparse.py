"""Sparse members and members of more than 8 GiB, read by tar and tarfile."""

from __future__ import annotations

import os
import subprocess
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest
from written_archives import KIB, MIB, MTIME, TOP, read_member, untar, writer

from pytest_gencore.archive import gzip_writer
from pytest_gencore.archive.writer import ArchiveWriter
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gencore.archive.gzip_writer import Reader

SPARSE_CASES: list[tuple[int, list[tuple[int, int]]]] = [
    (0, []),
    (5 * MIB, []),
    (4096, [(0, 4096)]),
    (8 * MIB, [(0, 4096), (MIB, 2 * 4096), (8 * MIB - 4096, 4096)]),
    (8 * MIB, [(MIB, 4096)]),
    (MIB + 100, [(4096, 4096), (MIB, 100)]),
    (20 << 30, [(0, 4096), (10 << 30, 4096), ((20 << 30) - 4096, 4096)]),
]


def contents_of(extents: Sequence[tuple[int, int]]) -> list[bytes]:
    return [bytes([65 + index]) * length for index, (_, length) in enumerate(extents)]


def reader_of(extents: Sequence[tuple[int, int]]) -> Reader:
    """Return what reads the contents; in each call of one extent."""

    def read(offset: int, buffer: memoryview) -> None:
        (data,) = (
            data
            for (start, length), data in zip(extents, contents_of(extents), strict=True)
            if start <= offset and offset + len(buffer) <= start + length
        )
        buffer[:] = data[:1] * len(buffer)

    return read


def check_sparse(path: Path, real_size: int, extents: Sequence[tuple[int, int]]) -> None:
    status = path.stat()
    assert status.st_size == real_size
    if real_size > MIB:
        assert status.st_blocks * 512 <= sum(length for _, length in extents) + 256 * KIB
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for (offset, length), data in zip(extents, contents_of(extents), strict=True):
            assert os.pread(descriptor, length, offset) == data
            assert os.pread(descriptor, 1, offset + length) in {b"", b"\0"}
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("real_size", "extents"), SPARSE_CASES)
def test_holes_are_restored(
    path: Path, tmp_path: Path, real_size: int, extents: list[tuple[int, int]]
) -> None:
    with writer(path) as archive:
        archive.add_sparse("core", real_size, extents, reader_of(extents))
        archive.add_bytes("next", b"next")

    assert path.stat().st_size < 64 * KIB
    top = untar(path, tmp_path / "gnu")
    check_sparse(top / "core", real_size, extents)
    assert (top / "next").read_bytes() == b"next"
    with tarfile.open(path) as tar:
        assert tar.getnames() == [f"{TOP}/core", f"{TOP}/next"]
        tar.extractall(tmp_path / "python", filter="fully_trusted")
    check_sparse(tmp_path / "python" / TOP / "core", real_size, extents)


@pytest.mark.parametrize(
    "extents",
    [
        [(0, 100), (4096, 100)],  # the first ends within a block
        [(4096, 4096), (0, 4096)],
        [(0, 8192), (4096, 4096)],
        [(0, 0)],
        [(0, MIB + 512)],
    ],
)
def test_bad_extents_are_refused(path: Path, extents: list[tuple[int, int]]) -> None:
    with writer(path) as archive, pytest.raises(ValueError, match="extent"):
        archive.add_sparse("core", MIB, extents, reader_of(extents))


@pytest.mark.parametrize("threads", [1, 3])
def test_contents_are_read_in_any_order(path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """In the threads that compress; all of it before the member is done."""
    monkeypatch.setattr(gzip_writer, "count_threads", lambda: threads)
    contents = os.urandom(7 * MIB + 512)
    extents = [(0, 300 * 512), (MIB, 3 * MIB + 512), (5 * MIB, 2 * MIB + 100)]
    read = 0
    lock = threading.Lock()

    def take(offset: int, buffer: memoryview) -> None:
        nonlocal read
        assert any(start <= offset and offset + len(buffer) <= start + size for start, size in extents)
        buffer[:] = contents[offset : offset + len(buffer)]
        with lock:
            read += len(buffer)

    with writer(path) as archive:
        archive.add_bytes("before", b"before" * 1000)
        archive.add_sparse("core", 7 * MIB + 512, extents, take)
        assert read == sum(size for _, size in extents)
        archive.add_bytes("next", b"next")

    with tarfile.open(path) as tar:
        kept = read_member(tar, "core").read()
        assert read_member(tar, "next").read() == b"next"
    for start, size in extents:
        assert kept[start : start + size] == contents[start : start + size]


@pytest.mark.parametrize("number", [0, 5, 11])
def test_what_reading_meets_is_raised(path: Path, number: int) -> None:
    def fail(offset: int, buffer: memoryview) -> None:
        if offset <= number * MIB < offset + len(buffer):
            raise ArchiveError("the snapshot is gone")

    with pytest.raises(ArchiveError, match="the snapshot is gone"), writer(path) as archive:
        archive.add_sparse("core", 12 * MIB, [(0, 12 * MIB)], fail)


@pytest.mark.parametrize("sparse", [False, True])
def test_headers_of_more_than_8_gib_are_read_by_tar_and_tarfile(tmp_path: Path, sparse: bool) -> None:
    """An uncompressed tar whose contents are a hole: the same headers, without 9 GiB of compression."""
    size = 9 << 30
    with (tmp_path / "unused").open("wb") as unused:
        archive = ArchiveWriter(unused, TOP, MTIME)
        attributes = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": f"{TOP}/core",
            "GNU.sparse.realsize": str(1 << 40),
        }
        header = archive._header("core", size, attributes=attributes if sparse else None)
        following = archive._header("next", 0)
        archive.abort()
    path = tmp_path / "large.tar"
    with path.open("wb") as file:
        file.write(header)
        file.write(f"2\n0\n{size - 512}\n{1 << 40}\n0\n".encode())
        file.seek(len(header) + size)
        file.write(following + bytes(1024))

    real_size = 1 << 40 if sparse else size
    with tarfile.open(path) as tar:
        assert [(m.name, m.size) for m in tar] == [(f"{TOP}/core", real_size), (f"{TOP}/next", 0)]
    listing = subprocess.run(["tar", "tvf", path], capture_output=True, text=True, check=True)
    assert listing.stderr == ""
    assert str(real_size) in listing.stdout
    assert f"{TOP}/next" in listing.stdout
