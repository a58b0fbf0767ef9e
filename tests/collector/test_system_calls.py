"""The system call of each stopped thread, with what it waits for."""

from __future__ import annotations

import re
from typing import Any

import pytest
from capabilities import needs
from system_reading import read_of

SUBJECT = """
import ctypes, fcntl, os, select, socket, sys, threading, time
from pathlib import Path
from subjects import report
from system_reading import capture_and_read, start_in_call
directory = Path(sys.argv[1])
libc = ctypes.CDLL(None)
tids = {}

def block(row, function, *arguments, names):
    tids[row] = start_in_call(function, *arguments, names=names)

listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
silent, _ = listener.accept()
one, other = socket.socketpair()
reads, writes = os.pipe()
full_reads, full_writes = os.pipe()
os.set_blocking(full_writes, False)
os.write(full_writes, bytes(1 << 20))
os.set_blocking(full_writes, True)
fifo = directory / "fifo"
os.mkfifo(fifo)
locked, waiting = open(directory / "locked", "w"), open(directory / "locked", "w")
fcntl.flock(locked, fcntl.LOCK_EX)
epoll = select.epoll()
epoll.register(reads, select.EPOLLIN)
pid = os.fork()
if not pid:
    libc.prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    os.read(reads, 1)
    os._exit(0)
lock = threading.Lock()
lock.acquire()
mutex = ctypes.create_string_buffer(64)
libc.pthread_mutex_lock(mutex)
word = ctypes.c_int(1)
def new_poll():
    poll = select.poll()
    poll.register(reads, select.POLLIN)
    poll.register(full_writes, select.POLLOUT)
    return poll
FUTEX = 202 if os.uname().machine == "x86_64" else 98

block("recv", client.recv, 10, names=("recvfrom",))
block("accept", listener.accept, names=("accept4",))
block("read", os.read, reads, 1, names=("read",))
block("write", os.write, full_writes, bytes(10), names=("write",))
block("poll", new_poll().poll, names=("poll", "ppoll"))
block("limited poll", new_poll().poll, 500_000, names=("poll", "ppoll"))
block("select", select.select, [one, reads], [full_writes], [], names=("select", "pselect6"))
block("epoll", epoll.poll, names=("epoll_wait", "epoll_pwait"))
block("flock", fcntl.flock, waiting, fcntl.LOCK_EX, names=("flock",))
block("wait", os.waitpid, pid, 0, names=("wait4",))
block("any child", os.wait, names=("wait4",))
block("sleep", time.sleep, 1000, names=("clock_nanosleep", "select", "pselect6"))
block("open", open, fifo, names=("openat",))
block("lock", lock.acquire, names=("futex",))
block("timed lock", lock.acquire, True, 500, names=("futex",))
block("mutex", libc.pthread_mutex_lock, mutex, names=("futex",))
block("word", libc.syscall, FUTEX, ctypes.byref(word), 0, 1, None, names=("futex",))
block("pause", libc.pause, names=("pause", "ppoll"))
numbers = {"client": client.fileno(), "listener": listener.fileno(), "one": one.fileno(), "reads": reads,
    "full_writes": full_writes, "waiting": waiting.fileno(), "epoll": epoll.fileno(), "pid": pid}
answer = capture_and_read(directory / "out")
os.kill(pid, 9)
report(answer=answer, tids=tids, numbers=numbers, own=os.getpid(), fifo=str(fifo))
os._exit(0)
"""


@pytest.fixture(scope="module", params=["root", pytest.param("nobody", marks=needs("root"))])
def answer(request: pytest.FixtureRequest) -> Any:
    return read_of(SUBJECT, request.param)


ROWS = {
    "recv": r"recvfrom\(fd {client}\)",
    "accept": r"accept4\(fd {listener}\)",
    "read": r"read\(fd {reads}\)",
    "write": r"write\(fd {full_writes}\)",
    "poll": r"p?poll\(fd {reads} to read, fd {full_writes} to write\)",
    "limited poll": r"p?poll\(fd {reads} to read, fd {full_writes} to write, at most 8 min 20 s\)",
    "select": r"p?select6?\(fd {one} to read, fd {reads} to read, fd {full_writes} to write\)",
    "epoll": r"epoll_p?wait\(fd {epoll}\)",
    "flock": r"flock\(fd {waiting}\)",
    "wait": r"wait4\(process {pid}\)",
    "any child": r"wait4\(any child\)",
    "open": r"openat\(.*/fifo\)",
    "lock": r"futex\(0x[0-9a-f]+\)",
    "timed lock": r"futex\(0x[0-9a-f]+, 8 min .* left\)",
    "mutex": r"futex\(0x[0-9a-f]+\)",
    "sleep": r"(clock_nanosleep\(16 min .* left|p?select6?\().*\)",
    "pause": r"(pause|ppoll)\(\)",
}


def text_of(answer: Any, row: str) -> str:
    (call,) = [call for call in answer["answer"]["calls"] if call["tid"] == answer["tids"][row]]
    return str(call["text"])


@pytest.mark.parametrize("row", ROWS)
def test_call(answer: Any, row: str) -> None:
    assert re.fullmatch(ROWS[row].format(**answer["numbers"]), text_of(answer, row))


def test_what_it_waits_for_is_described(answer: Any) -> None:
    lines = answer["answer"]["lines"]
    numbers, tids = answer["numbers"], answer["tids"]
    assert lines[str(tids["recv"])][1].startswith(f"fd {numbers['client']}: TCP 127.0.0.1:")
    assert lines[str(tids["write"])][1].startswith(f"fd {numbers['full_writes']}: write end of a pipe, full")
    assert lines[str(tids["flock"])][1].endswith("/locked, locked (FLOCK) by this process")
    assert lines[str(tids["wait"])][1].startswith(f"child {numbers['pid']}: ")
    assert answer["answer"]["waited_for"] == {
        str(tids["wait"]): numbers["pid"],
        str(tids["any child"]): numbers["pid"],
    }


def test_owner_of_a_mutex(answer: Any) -> None:
    """A lock of Python and a plain word have none that could be known."""
    owners = answer["answer"]["owners"]
    tids = answer["tids"]
    assert owners[str(tids["mutex"])] == [answer["own"], False]
    assert answer["answer"]["lines"][str(tids["mutex"])][1:] == [
        f"a native lock probably held by thread {answer['own']}"
    ]
    assert [owners[str(tids[row])] for row in ("lock", "timed lock", "word")] == [None] * 3


def test_the_capturing_thread_is_in_no_call(answer: Any) -> None:
    assert answer["own"] not in [call["tid"] for call in answer["answer"]["calls"]]


def test_nothing_unreadable_was_asked_for(answer: Any) -> None:
    assert answer["answer"]["unreadable"] == 0


def test_it_is_quick(answer: Any) -> None:
    assert answer["answer"]["seconds"] < 2
