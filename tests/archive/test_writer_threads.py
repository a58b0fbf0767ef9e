"""The writer where no threads, or few, can be started, and where its file hangs."""

from __future__ import annotations

import os
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest
from written_archives import MIB, read_member, writer

from pytest_gencore.archive import gzip_writer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that were started."""
    names: list[str] = []
    start = threading.Thread.start

    def note(thread: threading.Thread) -> None:
        start(thread)
        names.append(thread.name)

    monkeypatch.setattr(threading.Thread, "start", note)
    monkeypatch.setattr(gzip_writer, "count_threads", lambda: 3)
    return names


@pytest.mark.parametrize("possible", [0, 1, 2, 3, 4])
def test_few_threads(path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str], possible: int) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if len(started) >= possible:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    noise = os.urandom(9 * MIB + 7)

    def read(offset: int, buffer: memoryview) -> None:
        buffer[:] = noise[offset : offset + len(buffer)]

    with writer(path) as archive:
        archive.reserve_manifest(b"{}", 100)
        archive.add_bytes("noise", noise)
        archive.add_bytes("nothing", b"")
        archive.add_sparse("core", 3 * MIB, [(0, 3 * MIB)], read)
    assert len(started) == possible
    with tarfile.open(path) as tar:
        assert read_member(tar, "noise").read() == noise
        assert read_member(tar, "core").read() == noise[: 3 * MIB]
    assert not [thread for thread in threading.enumerate() if thread.name in started]


@pytest.mark.parametrize("possible", [0, 4])
def test_an_error_without_threads(
    path: Path, monkeypatch: pytest.MonkeyPatch, started: list[str], possible: int
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if len(started) >= possible:
            raise RuntimeError("can't start new thread")
        start(thread)

    def fail(_descriptor: int, _data: bytes) -> None:
        raise OSError(27, "File too large")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(gzip_writer, "write_all", fail)
    with pytest.raises(OSError, match="File too large"), writer(path) as archive:
        archive.add_bytes("noise", os.urandom(9 * MIB))


def test_a_file_that_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that does not answer: giving up the archive does not wait for it."""
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(_descriptor: int, _data: bytes) -> None:
        hangs.set()
        goes_on.wait()

    monkeypatch.setattr(gzip_writer, "write_all", hang)
    monkeypatch.setattr(gzip_writer, "_ABORT_SECONDS", 0.05)
    with path.open("wb") as file:
        output = gzip_writer.CompressedOutput(file.fileno(), None)
        output.write(os.urandom(MIB))
        assert hangs.wait(30)
        output.abort()
        goes_on.set()
