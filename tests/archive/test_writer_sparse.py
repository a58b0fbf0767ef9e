"""Sparse members and members of more than 8 GiB, read by tar and tarfile."""

from __future__ import annotations

import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from written_archives import KIB, MIB, MTIME, TOP, untar, writer

from pytest_gencore.archive.writer import ArchiveWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


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
        missing = archive.add_sparse("core", real_size, extents, iter(contents_of(extents)))
        archive.add_bytes("next", b"next")

    assert missing == 0
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
        archive.add_sparse("core", MIB, extents, iter(()))


def test_sparse_member_with_missing_contents_is_filled(path: Path, tmp_path: Path) -> None:
    with writer(path) as archive:
        missing = archive.add_sparse("core", MIB, [(4096, 8192)], iter([b"x" * 100]))
        archive.add_bytes("next", b"next")

    assert missing == 8092
    top = untar(path, tmp_path / "out")
    assert (top / "core").read_bytes() == bytes(4096) + b"x" * 100 + bytes(MIB - 4196)


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
