"""The questions to a snapshot and its answers stay together, and no wait for it is for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from kernel import wait_until

from pytest_gencore.collector.source import snapshot as module
from pytest_gencore.collector.source.snapshot import Snapshot
from pytest_gencore.errors import ArchiveError
from pytest_gencore.machine.patience import Patience
from pytest_gencore.machine.process import state_of
from pytest_gencore.protocol import COMMAND, Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1 << 20
SERVER = """
import os, signal, struct, sys
READ, MINCORE, UNREADABLE = map(int, sys.argv[1:4])
out = os.fdopen(1, "wb", buffering=0)
def write(data):
    while data:
        data = data[out.write(data):]
write(struct.pack("<iiiii", os.getpid(), 0, 0, 0, 0) + struct.pack("<I", 4096))
while command := os.read(0, 24):
    kind, address, size = struct.unpack("<QQQ", command)
    if address == 0xdead:
        os.kill(os.getpid(), signal.SIGSTOP)
    elif kind == READ:
        write(bytes([address >> 20 & 0xff]) * size)
    elif kind == MINCORE:
        write(b"m" * size)
    elif kind == UNREADABLE:
        write((7).to_bytes(8, "little"))
"""


@pytest.fixture
def snapshot() -> Iterator[Snapshot]:
    """A snapshot whose memory is the number of its MiB, over and over; it stops at 0xdead."""
    arguments = [str(int(kind)) for kind in (Command.READ, Command.MINCORE, Command.UNREADABLE)]
    command = [sys.executable, "-c", SERVER, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.closing(process.stdin), contextlib.closing(process.stdout):
            yield Snapshot(process.pid, process.stdin.fileno(), process.stdout.fileno())
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def test_the_server_is_as_the_protocol(snapshot: Snapshot) -> None:
    assert COMMAND.size == 24
    assert snapshot.status.page_size == 4096
    assert snapshot.read(3 * MIB, 5) == b"\3" * 5


ASK: dict[str, tuple[Callable[[Snapshot], object], object]] = {
    "read": (lambda snapshot: snapshot.read(9 * MIB, 3), b"\t" * 3),
    "mincore": (lambda snapshot: snapshot.mincore(0, 3), b"mmm"),
    "unreadable": (Snapshot.unreadable_pages, 7),
}


@pytest.mark.parametrize("question", ASK)
def test_a_stream_that_is_given_up(snapshot: Snapshot, question: str) -> None:
    """As for a core that cannot be written: what it left in the pipe is no answer to the next question."""
    stream = snapshot.stream([(number * MIB, MIB) for number in range(1, 4)])
    assert bytes(next(stream)[:1]) == b"\1"
    ask, answer = ASK[question]
    assert ask(snapshot) == answer
    with pytest.raises(RuntimeError, match="between the pieces"):
        next(stream)


def test_a_large_stream_is_whole(snapshot: Snapshot) -> None:
    sizes = [len(piece) for piece in snapshot.stream([(0, 3 * MIB + 5), (5 * MIB, 0), (6 * MIB, 300 * MIB)])]
    assert sum(sizes) == 303 * MIB + 5
    assert snapshot.unreadable_pages() == 7


def test_a_stopped_snapshot(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Patience", lambda: Patience(0.2))
    monkeypatch.setattr(module, "_TICK_SECONDS", 0.05)
    stream = snapshot.stream([(0xDEAD, 1)])
    with pytest.raises(ArchiveError, match=r"^the snapshot has not moved for 0 s: it is stopped$"):
        list(stream)
    wait_until(lambda: state_of(snapshot.pid) == "T", "it is stopped")
