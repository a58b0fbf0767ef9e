"""What a capture says of descriptors is bounded, and the descriptors are as they were."""

from __future__ import annotations

from system_reading import read_of

BEGIN = """
import ctypes, os, resource, select, socket, sys, time
from pathlib import Path
from subjects import report
from system_reading import capture_and_read
directory = Path(sys.argv[1]) / "out"
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
"""
MANY = """
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
many = [os.open("/dev/null", os.O_RDONLY) for _ in range(2000)]
answer = capture_and_read(directory)
own = len(os.listdir("/proc/self/fd")) - 1
report(found=len(answer["descriptors"]), count=answer["descriptor_count"], own=own)
"""


def test_many() -> None:
    answer = read_of(BEGIN + MANY, "root")
    assert answer["count"] == answer["own"] > 2000
    assert 0 < answer["found"] <= 1024


FULL_TABLE = """
from subjects import Captures
from system_reading import answer_in, replace_collector
replace_collector()
captures = Captures(directory)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
reads, writes = os.pipe()
os.write(writes, b"12")
filling = []
try:
    while True:
        filling.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
captures.take()
for descriptor in filling:
    os.close(descriptor)
answer = answer_in(directory)
(pipe,) = [item for item in answer["descriptors"] if item["fd"] == reads]
report(pipe=pipe["text"], found=len(answer["descriptors"]), count=answer["descriptor_count"], writes=writes)
"""


def test_full_table() -> None:
    """The lowest three make room for what is needed to look at the others."""
    answer = read_of(BEGIN + FULL_TABLE, "root")
    assert answer["found"] == answer["count"] == 61
    assert "2 bytes in it" in answer["pipe"]


LONG = """
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
epoll = select.epoll()
path = Path(sys.argv[1], *["d" * 200] * 10)
path.mkdir(parents=True)
deep = os.open(path, os.O_RDONLY)
many = [socket.socketpair() for _ in range(300)]
for pair in many:
    for one in pair:
        epoll.register(one, select.EPOLLIN)
answer = capture_and_read(directory)
found = {item["fd"]: item for item in answer["descriptors"]}
watched = len(found[epoll.fileno()]["watched"])
report(watched=watched, link=len(found[deep]["link"]))
"""


def test_long_texts_are_cut() -> None:
    answer = read_of(BEGIN + LONG, "root")
    assert 100 < answer["watched"] < 600
    assert answer["link"] == 1024


STATE = """
refused = socket.socket()
refused.setblocking(False)
unused = socket.create_server(("127.0.0.1", 0))
address = unused.getsockname()
unused.close()
try:
    refused.connect(address)
except BlockingIOError:
    pass
select.select([], [refused], [], 10)  # it is refused now
libc = ctypes.CDLL(None)
event = libc.eventfd(3, 0)
timer = libc.timerfd_create(1, os.O_NONBLOCK)
libc.timerfd_settime(timer, 0, (ctypes.c_long * 4)(0, 0, 0, 1), None)
select.select([timer], [], [], 10)
reads, writes = os.pipe()
os.write(writes, b"123")
file = open(directory.parent / "file", "w+b")
file.write(b"12345"); file.flush(); file.seek(2)
before = [os.get_blocking(reads), os.get_inheritable(reads), os.lseek(file.fileno(), 0, os.SEEK_CUR)]
answer = capture_and_read(directory)
after = [os.get_blocking(reads), os.get_inheritable(reads), os.lseek(file.fileno(), 0, os.SEEK_CUR)]
report(
    error=refused.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
    event=int.from_bytes(os.read(event, 8), "little"),
    timer=int.from_bytes(os.read(timer, 8), "little"),
    pipe=os.read(reads, 10).decode(),
    same=before == after,
)
"""


def test_nothing_is_changed() -> None:
    answer = read_of(BEGIN + STATE, "root")
    assert answer == {"error": 111, "event": 3, "timer": 1, "pipe": "123", "same": True}
