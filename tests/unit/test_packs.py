"""Libraries that an earlier archive has: copied, or compressed again if anything is doubtful."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.archive.gzip_writer import copy_all
from pytest_gencore.archive.writer import ArchiveWriter
from pytest_gencore.collector.files.libraries import Library
from pytest_gencore.collector.files.library_cache import PackLog, Packs, key_of

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 1000 + b"end"
PATH = "/usr/lib/libexample.so.1"
KEY = "key"


def make_archive(directory: Path, name: str, packs: Packs | None = None) -> bool:
    """Write an archive with a library between two other members; tell whether the library was copied."""
    log = PackLog()
    path = directory / f"{name}.tar.gz"
    pack = packs.find(KEY, len(DATA)) if packs is not None else None
    with path.open("xb") as file, ArchiveWriter(file, name, 1) as archive:
        archive.reserve_manifest(b"{}", 10)
        archive.add_bytes("before", b"1")
        if pack is not None:
            start = archive.copy_pack(PATH, len(DATA), pack.descriptor, (pack.offset, pack.length), 0o700)
            log.add(KEY, start, pack.length)
        else:
            missing, start, end = archive.add_pack(PATH, len(DATA), iter([DATA]), 0o700)
            assert missing == 0
            log.add(KEY, start, end)
        archive.add_bytes("after", b"2")
    log.write(path, directory)
    return pack is not None


def assert_whole(directory: Path, name: str) -> None:
    subprocess.run(["gzip", "--test", directory / f"{name}.tar.gz"], check=True)
    subprocess.run(["tar", "xzf", directory / f"{name}.tar.gz", "-C", directory], check=True)
    top = directory / name
    assert (top / PATH.lstrip("/")).read_bytes() == DATA
    assert ((top / "before").read_bytes(), (top / "after").read_bytes()) == (b"1", b"2")


def test_copied_from_copies(tmp_path: Path) -> None:
    assert not make_archive(tmp_path, "one")
    with Packs(tmp_path, tmp_path) as packs:
        assert make_archive(tmp_path, "two", packs)
    (tmp_path / "one.tar.gz").unlink()
    with Packs(tmp_path, tmp_path) as packs:
        assert make_archive(tmp_path, "three", packs), "the second one is as good"
    assert_whole(tmp_path, "two")
    assert_whole(tmp_path, "three")


def test_an_archive_that_is_not_what_it_was(tmp_path: Path) -> None:
    make_archive(tmp_path, "one")
    archive = tmp_path / "one.tar.gz"
    with archive.open("ab") as file:
        file.write(b"x")
    with Packs(tmp_path, tmp_path) as packs:
        assert not make_archive(tmp_path, "two", packs)
    archive.unlink()
    archive.symlink_to(tmp_path / "two.tar.gz")
    (tmp_path / "two.packs").unlink()
    with Packs(tmp_path, tmp_path) as packs:
        assert packs.find(KEY, len(DATA)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"packs": {"key": 1}, "archive": "x", "identity": []}'])
def test_a_broken_index(tmp_path: Path, text: str) -> None:
    (tmp_path / "one.packs").write_text(text)
    with Packs(tmp_path, tmp_path) as packs:
        assert packs.find(KEY, 1) is None


def test_another_size_is_another_file(tmp_path: Path) -> None:
    make_archive(tmp_path, "one")
    with Packs(tmp_path, tmp_path) as packs:
        assert packs.find(KEY, len(DATA)) is not None
        assert packs.find(KEY, len(DATA) + 512) is None
        assert packs.find("other", len(DATA)) is None
        assert packs.find(None, len(DATA)) is None


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "library"
    path.write_bytes(DATA)

    def key() -> str | None:
        with path.open("rb") as file:
            return key_of(Library(str(path), len(DATA), "ab", file))

    first = key()
    assert first == key()
    os.utime(path, ns=(1, 1))
    assert key() != first


def test_a_source_that_ends_too_early(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    with (
        (tmp_path / "source").open("rb") as source,
        (tmp_path / "target").open("wb") as target,
        pytest.raises(OSError, match="shorter than it was"),
    ):
        copy_all(source.fileno(), 1, 3, target.fileno())
