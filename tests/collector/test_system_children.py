"""Children of a captured process, the pipes for which they sleep; and a process that has ended."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import needs
from projects import ARTIFACTS, EXITS, QUICK, Project
from system_reading import answer_in, read_of

if TYPE_CHECKING:
    from pathlib import Path

SUBJECT = """
import fcntl, os, struct, subprocess, sys, termios
from pathlib import Path
from kernel import wait_until
from subjects import report
from system_reading import capture_and_read
WRITE = "import os; os.write(1, bytes(200000))"
WRITE_TO_BOTH = "import os; os.write(2, b'x'); os.write(1, bytes(200000))"
INNER = "import os; os.write(1, b'x'); os.read(0, 1)"
NESTED = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {INNER!r}])"
PIPE = subprocess.PIPE

def start(code, **options):
    return subprocess.Popen([sys.executable, "-c", code], **options)

def is_asleep(process, function):
    text = Path(f"/proc/{process.pid}/wchan").read_text()
    return text.endswith(function)

full = start(WRITE, stdout=PIPE)
both = start(WRITE_TO_BOTH, stdout=PIPE, stderr=PIPE)
reads, writes = os.pipe()
shared = start(WRITE, stdout=writes)
also = start("import os; os.write(1, b'x'); os.read(0, 1)", stdin=PIPE, stdout=PIPE, pass_fds=[reads])
also.stdout.read(1)
waits = start("import os; os.read(0, 1)", stdin=PIPE)
nested = start(NESTED, stdin=PIPE, stdout=PIPE)
nested.stdout.read(1)
ended = start("")
os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
for process in (full, both, shared):
    wait_until(lambda: is_asleep(process, "pipe_write"), "it sleeps")
for process in (waits, also):
    wait_until(lambda: is_asleep(process, "pipe_read"), "it sleeps")
answer = capture_and_read(Path(sys.argv[1], "out"))
everybody = dict(full=full, both=both, shared=shared, also=also, waits=waits, nested=nested, ended=ended)
fds = {"full": full.stdout.fileno(), "reads": reads, "waits": waits.stdin.fileno()}
nested.stdin.close()  # and so ends its child
for process in everybody.values():
    process.kill()
report(answer=answer, fds=fds, pids={name: process.pid for name, process in everybody.items()})
"""


@pytest.fixture(scope="module", params=["root", pytest.param("nobody", marks=needs("root"))])
def answer(request: pytest.FixtureRequest) -> Any:
    return read_of(SUBJECT, request.param)


def child(answer: Any, name: str) -> Any:
    (found,) = [item for item in answer["answer"]["children"] if item["pid"] == answer["pids"][name]]
    return found


def test_all_are_there(answer: Any) -> None:
    children = answer["answer"]["children"]
    assert answer["answer"]["child_count"] == 7
    assert {item["pid"] for item in children if item["is_direct"]} == set(answer["pids"].values())
    (grandchild,) = [item for item in children if not item["is_direct"]]
    assert "os.read(0, 1)" in grandchild["command"]


def test_full_pipe_that_only_this_process_reads(answer: Any) -> None:
    pid, number = answer["pids"]["full"], answer["fds"]["full"]
    found = child(answer, "full")
    assert (found["state"], found["call"]) == ("S", "write")
    assert found["wait_channel"].endswith("pipe_write")
    pipe = found["pipe"]
    assert (pipe["fd"], pipe["writes"], pipe["is_sure"], pipe["only_captured"]) == (1, True, True, True)
    assert [holder["fd"] for holder in pipe["other_end"]["holders"]] == [number]
    assert re.fullmatch(
        rf"child {pid}: \S+ -c import os; os\.write\(1, bytes\(200000\)\), sleeping in write, \S+ s old, "
        rf"its pipe fd 1 is full, read by this process \(fd {number}\)",
        found["text"],
    )
    assert child(answer, "both")["pipe"]["fd"] == 1


def test_full_pipe_that_others_read_too(answer: Any) -> None:
    pipe = child(answer, "shared")["pipe"]
    assert not pipe["only_captured"]
    assert {holder["pid"] for holder in pipe["other_end"]["holders"] if not holder["is_captured"]} == {
        answer["pids"]["also"]
    }


def test_empty_pipe_that_only_this_process_writes(answer: Any) -> None:
    pipe = child(answer, "waits")["pipe"]
    assert (pipe["fd"], pipe["writes"], pipe["only_captured"]) == (0, False, True)
    assert child(answer, "waits")["text"].endswith(
        f"its pipe fd 0 is empty, written by this process (fd {answer['fds']['waits']})"
    )


def test_one_that_has_ended(answer: Any) -> None:
    found = child(answer, "ended")
    assert (found["state"], found["pipe"]) == ("Z", None)
    assert re.fullmatch(r"child \d+: \[python\S*\], ended, not waited for, \S+ s old", found["text"])


# ---- a process that ends with its capture -----------------------------------------------------------------

CONFTEST = """
import os
from system_reading import replace_collector
replace_collector(after_its_end="PYTEST_XDIST_WORKER" in os.environ)
"""
HANG = """
import socket, subprocess, sys
def test_pipe():
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        child = subprocess.Popen([sys.executable, "-c", "import os; os.write(1, bytes(200000))"], stdout=-1)
        child.wait()
def test_receive():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    client.recv(1)
def test_receive_in_time():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname(), timeout=1000)
    client.recv(1)
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(
    ("test", "workers"),
    [
        ("test_pipe", ()),
        ("test_receive", ()),
        ("test_pipe", ("-n", "1")),
        ("test_receive_in_time", ("-n", "1")),
    ],
)
def test_process_that_has_ended(tmp_path: Path, test: str, workers: tuple[str, ...]) -> None:
    """A worker is gone when the collector looks; a process that is alone waits for it."""
    project = Project(tmp_path)
    project.write(conftest=CONFTEST, test_hang=HANG)
    try:
        project.run(*QUICK, *EXITS, "--gencore-timeout=1.5", *workers, f"test_hang.py::{test}")
        answer = answer_in(tmp_path / ARTIFACTS)
    finally:
        shutil.rmtree(tmp_path / ARTIFACTS, ignore_errors=True)  # our collector leaves all that there was
        project.close()

    call = answer["calls"][[item["name"] for item in answer["calls"]].index(CALLS[test])]
    lines = answer["lines"][str(call["tid"])]
    if test == "test_pipe":
        (child,) = answer["children"]
        pipe = child["pipe"]
        assert call["child"] == child["pid"] == answer["waited_for"][str(call["tid"])]
        # Of a process that has ended, others may have seen the end, and closed theirs.
        assert (pipe["fd"], pipe["writes"], pipe["only_captured"]) == (1, True, not workers)
        assert lines[1].startswith(f"child {child['pid']}: ")
        assert "fd 1 is full, read by this process (fd " in lines[1]
    else:
        assert re.match(
            r"fd \d+: TCP 127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+.*, connected, nothing received", lines[1]
        )


CALLS = {"test_pipe": "wait4", "test_receive": "recvfrom", "test_receive_in_time": "poll"}
