"""Descriptors of a captured process: what they are, and who has the other end."""

from __future__ import annotations

import re
from typing import Any

import pytest
from capabilities import needs
from system_reading import read_of

SUBJECT = """
import ctypes, fcntl, os, select, socket, subprocess, sys, time
from pathlib import Path
from subjects import report
from system_reading import capture_and_read
directory = Path(sys.argv[1])
fds = {}
kept = []

def keep(name, thing):
    kept.append(thing)
    fds[name] = thing if isinstance(thing, int) else thing.fileno()

keep("listener", socket.create_server(("127.0.0.1", 0)))
keep("client", socket.create_connection(kept[0].getsockname()))
keep("served", kept[0].accept()[0])
kept[2].send(b"12345")
keep("ipv6 listener", socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True))
keep("mixed client", socket.create_connection(("127.0.0.1", kept[3].getsockname()[1])))
keep("mixed served", kept[3].accept()[0])
one, other = socket.socketpair()
keep("one", one)
keep("other", other)
named = socket.socket(socket.AF_UNIX)
named.bind(str(directory / "socket"))
named.listen()
keep("named", named)
abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
abstract.bind("\\0gencore-test-%d" % os.getpid())
keep("abstract", abstract)
keep("udp", socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
reads, writes = os.pipe()
keep("reads", reads)
keep("writes", writes)
os.write(writes, b"123")
child = subprocess.Popen(["sleep", "1000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
keep("to child", child.stdin)
keep("from child", child.stdout)
peer = subprocess.Popen([sys.executable, "-c", f'''
import os, socket, sys
socket.create_connection(("127.0.0.1", {kept[0].getsockname()[1]})).recv(os.write(1, b"x"))
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
peer.stdout.read(1)
keep("from another", kept[0].accept()[0])
os.mkfifo(directory / "fifo")
keep("fifo", os.open(directory / "fifo", os.O_RDONLY | os.O_NONBLOCK))
keep("flock", open(directory / "flock", "w"))
fcntl.flock(fds["flock"], fcntl.LOCK_SH)
keep("lockf", open(directory / "lockf", "w"))
fcntl.lockf(fds["lockf"], fcntl.LOCK_EX)
keep("others", open(directory / "others", "w"))
holder = subprocess.Popen([sys.executable, "-c", f'''
import fcntl, os, sys
file = open({str(directory / "others")!r})
fcntl.flock(file, fcntl.LOCK_EX)
os.write(1, b"x")
sys.stdin.read()
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
holder.stdout.read(1)
epoll = select.epoll()
epoll.register(reads, select.EPOLLIN)
epoll.register(one, select.EPOLLIN)
keep("epoll", epoll)
libc = ctypes.CDLL(None)
keep("eventfd", libc.eventfd(7, 0))
timer = libc.timerfd_create(1, 0)
libc.timerfd_settime(timer, 0, (ctypes.c_long * 4)(0, 0, 500, 0), None)
keep("timerfd", timer)
keep("unset timerfd", libc.timerfd_create(1, 0))
keep("pidfd", os.pidfd_open(child.pid))
keep("directory", os.open(directory, os.O_RDONLY))
keep("path", os.open(directory, os.O_PATH))
keep("null", os.open("/dev/null", os.O_RDWR))
keep("deleted", open(directory / "deleted\\x1b", "w"))
os.unlink(directory / "deleted\\x1b")
answer = capture_and_read(directory / "out")
data = [os.read(reads, 10).decode(), kept[1].recv(10).decode()]
for process in (child, peer, holder):
    process.kill()
report(answer=answer, fds=fds, child=child.pid, peer=peer.pid, holder=holder.pid, data=data)
"""


@pytest.fixture(scope="module", params=["root", pytest.param("nobody", marks=needs("root"))])
def answer(request: pytest.FixtureRequest) -> Any:
    return read_of(SUBJECT, request.param)


PORT = r"127\.0\.0\.1:\d+"
ROWS = {
    "listener": rf"TCP {PORT}, listening",
    "client": rf"TCP {PORT} -> {PORT} \(this process\), connected, nothing received for \S+ s, "
    r"5 bytes not yet read, other end: this process \(fd {served}\)",
    "served": rf"TCP {PORT} -> {PORT} \(this process\), connected, "
    r"nothing received since it was made \S+ s ago, other end: this process \(fd {client}\)",
    "mixed client": rf"TCP {PORT} -> {PORT} .*other end: this process \(fd {{mixed served}}\)",
    "mixed served": rf"TCP {PORT} -> {PORT} .*other end: this process \(fd {{mixed client}}\)",
    "from another": rf"TCP {PORT} -> {PORT} \(python\S*\), connected, .*"
    r"other end: child {peer} \(python\S*, fd \d+\)",
    "one": r"unix socket, other end: this process \(fd {other}\)",
    "named": r"unix socket /.*/socket, listening",
    "abstract": r"unix socket @gencore-test-\d+",
    "udp": r"UDP 0\.0\.0\.0:0",
    "reads": r"read end of a pipe, 3 bytes in it, written by this process \(fd {writes}\)",
    "writes": r"write end of a pipe, 3 bytes in it, read by this process \(fd {reads}\)",
    "to child": r"write end of a pipe, empty, read by child {child} \(sleep, fd 0\)",
    "from child": r"read end of a pipe, empty, written by child {child} \(sleep, fd 1\)",
    "fifo": r"read end of the FIFO /.*/fifo, empty, no process has its write end",
    "flock": r"/.*/flock, locked \(FLOCK\) by this process",
    "lockf": r"/.*/lockf, locked \(POSIX\) by this process",
    "others": r"/.*/others, locked \(FLOCK\) by process {holder} \(python\S*\)",
    "epoll": r"epoll that watches fd {one}, fd {reads}",
    "eventfd": r"eventfd, value 7",
    "timerfd": r"timerfd, expires in 8 min \d+ s",
    "unset timerfd": r"timerfd, not set",
    "pidfd": r"pidfd of process {child}",
    "directory": r"/.*",
    "path": r"/.*",
    "null": r"/dev/null",
    "deleted": r"/.*/deleted\\x1b \(deleted\)",
}


@pytest.mark.parametrize("row", ROWS)
def test_text(answer: Any, row: str) -> None:
    pattern = ROWS[row].replace("{{", "{").replace("}}", "}")
    numbers = {**answer["fds"], **{name: answer[name] for name in ("child", "peer", "holder")}}
    for name, number in numbers.items():
        pattern = pattern.replace(f"{{{name}}}", str(number))
    (text,) = [item["text"] for item in answer["answer"]["descriptors"] if item["fd"] == answer["fds"][row]]
    assert re.fullmatch(rf"fd {answer['fds'][row]}: {pattern}", text), text


def test_ours_are_not_there(answer: Any) -> None:
    links = [item["link"] for item in answer["answer"]["descriptors"]]
    assert not [link for link in links if "gencore-handover" in link or ".gencore-" in link]
    own = len(answer["answer"]["descriptors"])
    assert answer["answer"]["descriptor_count"] == own


def test_nothing_was_taken_out(answer: Any) -> None:
    assert answer["data"] == ["123", "12345"]
