"""The questions to a snapshot and its answers stay together, and no wait for it is for ever."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
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
    from collections.abc import Iterator

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


@contextlib.contextmanager
def served(code: str, stderr: int | None = None) -> Iterator[tuple[Snapshot, subprocess.Popen[bytes]]]:
    arguments = [str(int(kind)) for kind in (Command.READ, Command.MINCORE, Command.UNREADABLE)]
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.closing(process.stdin), contextlib.closing(process.stdout):
            yield Snapshot(process.pid, process.stdin.fileno(), process.stdout.fileno()), process
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def snapshot() -> Iterator[Snapshot]:
    """A snapshot whose memory is the number of its MiB, over and over; it stops at 0xdead."""
    with served(SERVER) as (snapshot, _):
        yield snapshot


def test_a_snapshot_that_is_stopped_at_birth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is left: it has the standard error of the run, for whose end others wait."""
    monkeypatch.setattr(module, "Patience", lambda: Patience(0.2))
    monkeypatch.setattr(module, "_TICK_SECONDS", 0.05)
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    with (
        pytest.raises(ArchiveError, match=r"^the snapshot has not moved for 0 s: it is stopped$"),
        served(code) as (_, process),
    ):
        pytest.fail(f"process {process.pid} did not say its status")


def test_the_server_is_as_the_protocol(snapshot: Snapshot) -> None:
    assert COMMAND.size == 24
    assert snapshot.status.page_size == 4096
    assert snapshot.read(3 * MIB, 5) == b"\3" * 5


def test_a_large_answer_is_whole(snapshot: Snapshot) -> None:
    assert snapshot.read(6 * MIB, 300 * MIB + 5) == b"\6" * (300 * MIB + 5)
    assert snapshot.unreadable_pages() == 7


def test_questions_of_many_threads(snapshot: Snapshot) -> None:
    """Each has its own answer, also where the kernel shows us no memory of the process."""
    with contextlib.suppress(OSError):
        os.close(snapshot._memory or -1)
    snapshot._memory = None

    def ask(number: int) -> None:
        buffer = bytearray(MIB + number)
        read = snapshot.copy_into if number % 2 else snapshot.read_into
        read(number * MIB, memoryview(buffer))
        assert bytes(buffer) == bytes([number]) * (MIB + number)
        assert snapshot.mincore(0, number) == b"m" * number

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(40)))


def test_memory_of_a_process() -> None:
    """Read by ourselves but for what the kernel refuses: that the snapshot is asked for."""
    page = mmap.PAGESIZE
    code = (
        "import ctypes, mmap, sys; area = mmap.mmap(-1, 3 * mmap.PAGESIZE); area[:] = b'x' * len(area);"
        "address = ctypes.addressof(ctypes.c_char.from_buffer(area));"
        "ctypes.CDLL(None).munmap(ctypes.c_void_p(address + mmap.PAGESIZE), mmap.PAGESIZE);"
        f"sys.stderr.write(f'{{address}}\\n'); exec({SERVER!r})"
    )
    with served(code, stderr=subprocess.PIPE) as (snapshot, process):
        assert process.stderr is not None
        address = int(process.stderr.readline())
        buffer = bytearray(2 * page + 10)
        snapshot.copy_into(address + 5, memoryview(buffer))
    asked = bytes([address + page >> 20 & 0xFF])
    assert bytes(buffer) == b"x" * (page - 5) + asked * page + b"x" * 15


def test_a_stopped_snapshot(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Patience", lambda: Patience(0.2))
    monkeypatch.setattr(module, "_TICK_SECONDS", 0.05)
    with pytest.raises(ArchiveError, match=r"^the snapshot has not moved for 0 s: it is stopped$"):
        snapshot.read(0xDEAD, 1)
    wait_until(lambda: state_of(snapshot.pid) == "T", "it is stopped")
