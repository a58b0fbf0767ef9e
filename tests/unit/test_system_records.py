"""Records of descriptors, children, locks: damaged ones give less, never an error."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from pytest_gencore.collector.diagnosis.system import sockets
from pytest_gencore.collector.diagnosis.system.children import find_pipe, read_children
from pytest_gencore.collector.diagnosis.system.descriptors import read_descriptors
from pytest_gencore.collector.diagnosis.system.locks import parse_locks
from pytest_gencore.collector.diagnosis.system.sockets import read_tcp_inodes
from pytest_gencore.protocol import CHILD, NOT_READ, OPEN_FILE, SOCKET

if TYPE_CHECKING:
    import pytest

S_IFIFO, S_IFSOCK, S_IFREG = 0o010000, 0o140000, 0o100000


def handover(descriptors: bytes = b"", children: bytes = b"") -> Any:
    run = SimpleNamespace(machine="x86_64", run_folder=".gencore-1-2-3")
    return cast(
        "Any",
        SimpleNamespace(
            pid=10,
            snapshot_pid=2**22 + 1,  # there is none
            directory=Path("/artifacts"),
            context=SimpleNamespace(run=run),
            descriptors=descriptors,
            children=children,
            child_count=NOT_READ,
            stopped_at_ns=10**9,
        ),
    )


def open_file(number: int, mode: int, link: bytes, info: bytes = b"", sockets: bytes = b"") -> bytes:
    sizes = (len(sockets), len(link), len(info))
    head = OPEN_FILE.pack(number, mode, 1, 0, 100 + number, 0, 0, 3, NOT_READ, 65536, *sizes)
    return head + sockets + link + info


def tcp(local: bytes, peer: bytes) -> bytes:
    numbers = (2, 1, 6, 0, NOT_READ, 1, 10, 20, 30)
    return SOCKET.pack(*numbers, len(local), len(peer), local.ljust(112, b"\0"), peer.ljust(112, b"\0"))


LOCAL, PEER = (
    bytes.fromhex("0200 1538 7f000001 0000000000000000"),
    bytes.fromhex("0200 0050 7f000002 0000000000000000"),
)
ALL = (
    open_file(3, S_IFIFO, b"pipe:[103]")
    + open_file(4, S_IFSOCK, b"socket:[104]", sockets=tcp(LOCAL, PEER))
    + open_file(5, S_IFREG, b"/artifacts/.gencore-1-2-3/slot-1")
    + open_file(6, 0, b"anon_inode:[eventpoll]", b"pos:\t0\ntfd:        9 events: 19 data: 9  pos:0\n")
)


RECEIVED = "nothing received for 0.02 s"


def test_whole() -> None:
    found = read_descriptors(handover(ALL))
    assert [item.describe() for item in found.values()] == [
        "fd 3: read end of a pipe, 3 bytes in it",
        f"fd 4: TCP 127.0.0.1:5432 -> 127.0.0.2:80, connected, {RECEIVED}, 3 bytes not yet read",
        "fd 6: epoll that watches fd 9",
    ]


def test_cut() -> None:
    found = [list(read_descriptors(handover(ALL[:end]))) for end in range(len(ALL))]
    assert sorted({tuple(numbers) for numbers in found}) == [(), (3,), (3, 4)]


def test_random_damage() -> None:
    source = random.Random(11)
    for _ in range(2000):
        data = bytearray(ALL)
        for _ in range(source.randrange(1, 6)):
            data[source.randrange(len(data))] = source.randrange(256)
        for item in read_descriptors(handover(bytes(data))).values():
            assert item.describe().isprintable()
            item.to_json()


STAT = b"4711 (a) b) S 10 4711 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 50 0 0"
CALL = b"1 0x1 0x2 0x3 0x0 0x0 0x0 0x7ffc 0x7ffd\n"


def child(pid: int, *texts: bytes) -> bytes:
    return CHILD.pack(pid, *(len(text) for text in texts)) + b"".join(texts)


WHOLE = child(
    4711, STAT, b"psql\0-f\0dump\x1b.sql\0", b"anon_pipe_write", CALL, b"0=/dev/null\x001=pipe:[5]\0"
)


def test_child() -> None:
    (found,) = read_children(handover(children=WHOLE))
    assert (found.call, found.channel, found.state) == ("write", "anon_pipe_write", "S")
    assert found.links == ((0, "/dev/null"), (1, "pipe:[5]"))
    assert found.describe().startswith(r"child 4711: psql -f dump\x1b.sql, sleeping in write, ")


def test_damaged_children() -> None:
    source = random.Random(12)
    for end in range(len(WHOLE)):
        read_children(handover(children=WHOLE[:end]))
    for _ in range(2000):
        data = bytearray(WHOLE)
        for _ in range(source.randrange(1, 6)):
            data[source.randrange(len(data))] = source.randrange(256)
        for found in read_children(handover(children=bytes(data))):
            assert found.describe().isprintable()


LOCKS = """\
1: FLOCK  ADVISORY  WRITE 10 fe:00:2146712 0 EOF
1: -> FLOCK  ADVISORY  WRITE 11 fe:00:2146712 0 EOF
2: POSIX  ADVISORY  READ  12 00:27:8 0 EOF
3: OFDLCK ADVISORY  WRITE -1 00:27:9 0 EOF
"""


def test_locks() -> None:
    locks = parse_locks(LOCKS, captured=10)
    assert [lock.file for lock in locks] == [(254, 0, 2146712), (0, 39, 8), (0, 39, 9)]
    assert [lock.describe() for lock in locks] == [
        "locked (FLOCK) by this process",
        "locked (POSIX) by process 12",
        "locked (OFDLCK)",
    ]


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1538 0200007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 4242 1 0
   1: 0100007F:1539 0200007F:0050 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0
   2: 0000000000000000FFFF00000100007F:1540 0000000000000000FFFF00000200007F:0050 01 0:0 0:0 0 0 0 4343 1 0
"""


def test_tcp_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_read_table", lambda path: TABLE.encode().splitlines()[1:])
    peer = ("127.0.0.2", 80)
    wanted = [(("127.0.0.1", port), peer) for port in (0x1538, 0x1539, 0x1540)]
    assert read_tcp_inodes(wanted) == {wanted[0]: 4242, wanted[2]: 4343}


def pipe_of(channel: bytes, links: bytes, full: set[str] | None = None, call: bytes = b"") -> object:
    (found,) = read_children(handover(children=child(4711, STAT, b"psql\0", channel, call, links)))
    pipe = find_pipe(found, full or set())
    return pipe and (pipe.descriptor, pipe.writes, pipe.is_sure)


STANDARD = b"0=pipe:[4]\x001=pipe:[5]\x002=pipe:[6]\0"


def test_pipe_by_the_system_call() -> None:
    assert pipe_of(b"anon_pipe_write", STANDARD, call=CALL) == (1, True, True)
    assert pipe_of(b"", STANDARD, call=CALL) == (1, True, True), "the function is not known"
    assert pipe_of(b"ep_poll", STANDARD, call=CALL) is None
    assert pipe_of(b"anon_pipe_write", b"1=/dev/null\0", call=CALL) is None


def test_pipe_by_the_function_of_the_kernel() -> None:
    """Only where it can be no other: the system call may not be read."""
    assert pipe_of(b"pipe_write", b"0=pipe:[4]\x001=pipe:[5]\x002=/dev/null\0") == (1, True, False)
    assert pipe_of(b"pipe_write", b"1=pipe:[5]\x002=pipe:[5]\0") == (1, True, False)
    assert pipe_of(b"pipe_write", STANDARD) is None
    assert pipe_of(b"pipe_write", STANDARD, {"pipe:[6]"}) == (2, True, False)
    assert pipe_of(b"anon_pipe_read", STANDARD) == (0, False, False)
    assert pipe_of(b"do_wait", STANDARD) is None
