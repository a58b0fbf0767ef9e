"""The writer of archives: members, manifest, progress, errors of sources and disks."""

from __future__ import annotations

import errno
import gzip
import json
import os
import subprocess
import tarfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest
from written_archives import MIB, MTIME, TOP, read_member, untar, writer

from pytest_gencore.archive import gzip_writer
from pytest_gencore.archive import writer as archive_module
from pytest_gencore.archive.writer import ArchiveWriter
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_tar_and_tarfile_restore_what_was_added(either_compressor: str, path: Path, tmp_path: Path) -> None:
    noise = os.urandom(3 * MIB + 7)
    with writer(path) as archive:
        archive.reserve_manifest(b"{}", 100)
        archive.add_stream("core", len(noise), (noise[i : i + 70_000] for i in range(0, len(noise), 70_000)))
        archive.add_bytes("/usr/lib/libexample.so.1", b"library", 0o755)
        archive.add_bytes("empty", b"")

    top = untar(path, tmp_path / "out")
    assert (top / "core").read_bytes() == noise
    assert (top / "usr/lib/libexample.so.1").read_bytes() == b"library"
    assert (top / "usr/lib/libexample.so.1").stat().st_mode & 0o777 == 0o755
    assert (top / "core").stat().st_mode & 0o777 == 0o600
    assert (top / "empty").read_bytes() == b""

    with tarfile.open(path) as tar:
        names = [f"{TOP}/{name}" for name in ("gencore.json", "core", "usr/lib/libexample.so.1", "empty")]
        assert tar.getnames() == names
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in tar} == {(0, 0, "", "", MTIME)}
        member = tar.extractfile(names[1])
        assert member is not None
        assert member.read() == noise


def test_tar_ends_at_a_record(path: Path) -> None:
    with writer(path) as archive:
        archive.reserve_manifest(b"{}", 0)
        archive.add_bytes("file", b"contents")

    assert len(gzip.decompress(path.read_bytes())) % tarfile.RECORDSIZE == 0


def test_manifest_is_first_and_rewritten_in_place(path: Path, tmp_path: Path) -> None:
    first = json.dumps({"state": "partial"}).encode()
    last = json.dumps({"state": "complete", "text": "x" * 150_000}).encode()
    with path.open("wb") as file:
        archive = ArchiveWriter(file, TOP, MTIME)
        archive.reserve_manifest(first, 200_000)
        archive.add_bytes("core", b"core")
        archive.close()
        file.flush()
        before = path.stat().st_size
        assert archive.bytes_out == before
        with tarfile.open(path) as tar:
            assert json.load(read_member(tar, "gencore.json")) == {"state": "partial"}

        archive.rewrite_manifest(last)

    assert path.stat().st_size == before
    top = untar(path, tmp_path / "out")
    assert json.loads((top / "gencore.json").read_bytes())["state"] == "complete"
    assert (top / "core").read_bytes() == b"core"
    with tarfile.open(path) as tar:
        assert tar.next() is not None
        assert tar.getnames()[0] == f"{TOP}/gencore.json"


def test_manifest_that_outgrows_its_room_is_refused(path: Path) -> None:
    with writer(path) as archive:
        archive.reserve_manifest(b"{}", 10)
        with pytest.raises(ArchiveError, match="room"):
            archive.rewrite_manifest(b" " * 2000)

    with tarfile.open(path) as tar:
        assert read_member(tar, "gencore.json").read().strip() == b"{}"


def test_a_manifest_that_does_not_compress_is_refused(path: Path) -> None:
    """Late notices are sentences: in the file they have less room than in the text."""
    with writer(path) as archive:
        archive.reserve_manifest(b"{}", 4096)
        archive.rewrite_manifest(json.dumps({"notices": ["a library could not be read"] * 100}).encode())
        with pytest.raises(ArchiveError, match="the room for it"):
            archive.rewrite_manifest(os.urandom(2000).hex().encode())

    with tarfile.open(path) as tar:
        assert len(json.load(read_member(tar, "gencore.json"))["notices"]) == 100
    data = path.read_bytes()
    assert data[3] == 4, "an extra field, and nothing else"
    assert subprocess.run(["gzip", "--test", path], check=True).returncode == 0


def test_manifest_must_come_first(path: Path) -> None:
    with writer(path) as archive:
        archive.add_bytes("core", b"")
        with pytest.raises(ValueError, match="first"):
            archive.reserve_manifest(b"{}", 0)


def test_short_stream_is_filled_and_reported(path: Path) -> None:
    with writer(path) as archive:
        missing = archive.add_stream("short", 1000, iter([b"abc", bytearray(b"def")]))
        archive.add_bytes("next", b"next")

    assert missing == 994
    with tarfile.open(path) as tar:
        assert read_member(tar, "short").read() == b"abcdef" + bytes(994)
        assert read_member(tar, "next").read() == b"next"


def test_long_stream_is_an_error_and_the_archive_stays_readable(path: Path) -> None:
    with writer(path) as archive:
        with pytest.raises(ArchiveError, match="larger than the 5 bytes"):
            archive.add_stream("long", 5, iter([b"abc", b"defgh", b"never read"]))
        archive.add_bytes("next", b"next")

    with tarfile.open(path) as tar:
        assert read_member(tar, "long").read() == b"abcde"
        assert read_member(tar, "next").read() == b"next"


def test_error_of_the_source_is_passed_on_and_the_archive_stays_readable(path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"abc"
        raise OSError(errno.EIO, "disk")

    with writer(path) as archive:
        with pytest.raises(OSError, match="disk"):
            archive.add_stream("broken", 2000, broken())
        archive.add_bytes("next", b"next")

    with tarfile.open(path) as tar:
        assert read_member(tar, "broken").read() == b"abc" + bytes(1997)
        assert read_member(tar, "next").read() == b"next"


def test_names_that_are_not_utf8_survive(path: Path) -> None:
    name = os.fsdecode(b"lib/\xff\xfe-\xc3\xa9.so")
    long_name = "d" * 150 + "/" + "f" * 200
    with writer(path) as archive:
        archive.add_bytes(name, b"1")
        archive.add_bytes(long_name, b"2")

    with tarfile.open(path) as tar:
        assert tar.getnames() == [f"{TOP}/{name}", f"{TOP}/{long_name}"]
    listing = subprocess.run(
        ["tar", "tzf", path, "--quoting-style=literal"], capture_output=True, check=True
    ).stdout
    assert os.fsencode(name) in listing
    assert long_name.encode() in listing


def test_name_that_leaves_the_folder_is_refused(path: Path) -> None:
    with writer(path) as archive, pytest.raises(ArchiveError, match="cannot be in an archive"):
        archive.add_bytes("../../etc/passwd", b"")


def test_progress_counts_what_went_in(path: Path) -> None:
    seen: list[int] = []
    with (
        path.open("wb") as file,
        ArchiveWriter(file, TOP, MTIME, on_progress=seen.append) as archive,
    ):
        archive.add_stream("core", 4 * MIB, iter([bytes(MIB)] * 4))

    assert seen == sorted(seen)
    assert len(seen) > 4
    assert seen[-1] >= 4 * MIB


def test_buffer_may_be_used_again(path: Path) -> None:
    """A reader that fills one buffer over and over, as readinto does."""
    buffer = bytearray(100_000)

    def chunks() -> Iterator[memoryview]:
        for number in range(50):
            buffer[:] = bytes([number]) * len(buffer)
            yield memoryview(buffer)

    with writer(path) as archive:
        archive.add_stream("core", 50 * len(buffer), chunks())

    with tarfile.open(path) as tar:
        expected = b"".join(bytes([number]) * len(buffer) for number in range(50))
        assert read_member(tar, "core").read() == expected


@pytest.mark.parametrize("threads", [1, 4])
def test_order_is_kept_whatever_takes_longest(
    path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(gzip_writer, "count_threads", lambda: threads)
    noise = os.urandom(2 * MIB)  # takes longer than zeros
    blocks = [noise, bytes(2 * MIB)] * 15
    with writer(path) as archive:
        archive.add_stream("core", sum(map(len, blocks)), iter(blocks))

    with tarfile.open(path) as tar:
        assert read_member(tar, "core").read() == b"".join(blocks)


@contextmanager
def small_file_system(where: Path, size: int) -> Iterator[Path]:
    where.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "gencore-test", where],
        check=False,
        capture_output=True,
    )
    if mount.returncode:
        pytest.skip("cannot mount a small file system")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


def add_until_full(file: BinaryIO) -> None:
    with ArchiveWriter(file, TOP, MTIME) as archive:
        archive.reserve_manifest(b"{}", 0)
        noise = os.urandom(MIB)
        archive.add_stream("core", 64 * MIB, iter([noise] * 64))


def test_full_disk_is_an_oserror(tmp_path: Path, either_compressor: str) -> None:
    with (
        small_file_system(tmp_path / "small", 4 * MIB) as where,
        (where / "archive").open("wb") as file,
        pytest.raises(OSError, match="No space") as caught,
    ):
        add_until_full(file)
    assert caught.value.errno == errno.ENOSPC


def test_full_disk_at_the_last_block_is_an_oserror() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        ArchiveWriter(file, TOP, MTIME).close()


def test_no_thread_is_left(path: Path) -> None:
    before = threading.active_count()
    with writer(path) as archive:
        archive.add_stream("core", 8 * MIB, iter([bytes(MIB)] * 8))
        assert before < threading.active_count() <= before + 1 + gzip_writer.count_threads()
    assert threading.active_count() == before

    with path.open("wb") as file:
        archive = ArchiveWriter(file, TOP, MTIME)
        archive.abort()
        archive.abort()
    assert threading.active_count() == before


def test_stored_gzip_is_what_gzip_reads() -> None:
    for size in (0, 1, 0xFFFF, 0x10000, 200_000):
        data = os.urandom(size)
        for pieces in ((data,), (data[: size // 3], b"", data[size // 3 :])):
            assert gzip.decompress(archive_module.stored_gzip(*pieces)) == data
