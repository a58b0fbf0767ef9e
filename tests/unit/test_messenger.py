"""Words to the people, without waiting for anybody."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from typing import TYPE_CHECKING

from pytest_gencore.collector.outcome.messenger import write_with_timeout

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pipe_that_nobody_reads() -> None:
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        assert not write_with_timeout(writing, bytes(10_000), timeout=0.05)
        assert not fcntl.fcntl(writing, fcntl.F_GETFL) & os.O_NONBLOCK, "others have it, too"
    finally:
        os.close(reading)
        os.close(writing)


def test_a_pipe_that_is_read_slowly() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    received: list[bytes] = []

    def read() -> None:
        while piece := os.read(reading, 100):
            received.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    assert write_with_timeout(writing, b"x" * 100_000)
    os.close(writing)
    reader.join()
    os.close(reading)
    assert b"".join(received) == b"x" * 100_000


def test_a_pipe_without_a_reader() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert not write_with_timeout(writing, b"x")
    os.close(writing)


def test_a_socket_that_nobody_reads() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert write_with_timeout(one.fileno(), b"hello")
        assert other.recv(10) == b"hello"


def test_a_file_is_continued_where_others_are(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b", buffering=0) as file:
        file.write(b"before ")
        assert write_with_timeout(file.fileno(), b"ours ")
        file.write(b"after")
        assert (tmp_path / "log").read_bytes() == b"before ours after"
