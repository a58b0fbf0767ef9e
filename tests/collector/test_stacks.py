"""What faulthandler and pystack really print, of every Python of this machine, as the collector reads it."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import find_python_program, needs
from fake_pystack import fake_pystack
from interpreters import MINORS, find_interpreter
from subjects import run_subject

from pytest_gencore.collector.stacks import pystack_reader
from pytest_gencore.collector.stacks.model import merge_threads, threads_of
from pytest_gencore.collector.stacks.parsers import parse_faulthandler, parse_pystack
from pytest_gencore.collector.stacks.report import format_full, make_answer
from pytest_gencore.collector.stacks.trigger_text import Facts
from pytest_gencore.request.context import ThreadStack

if TYPE_CHECKING:
    from pathlib import Path

PYTHONS = [
    pytest.param(
        minor,
        id=f"3.{minor}",
        marks=pytest.mark.skipif(not find_interpreter(minor), reason=f"no Python 3.{minor}"),
    )
    for minor in MINORS
]
CRASH = """
import ctypes, faulthandler, sys, threading
faulthandler.enable()
lock = threading.Lock()
lock.acquire()
ready = threading.Barrier(2)
def wait_for_ever():
    ready.wait()
    with lock:
        pass
def a_test():
    print(threading.get_ident(), threading.get_native_id(), flush=True)
    ctypes.string_at(0)
thread = threading.Thread(target=wait_for_ever, daemon=True)
thread.start()
ready.wait()
__import__("time").sleep(0.1)
a_test()
"""
DUMP = """
import faulthandler
def recurse(depth):
    if depth:
        return recurse(depth - 1)
    faulthandler.dump_traceback(all_threads=True)
recurse(200)
"""


def run_python(minor: int, file: Path, text: str) -> tuple[str, str]:
    file.write_text(text)
    python = find_interpreter(minor)
    assert python is not None
    done = subprocess.run(
        [python, "-I", str(file)], capture_output=True, text=True, check=False, timeout=30, cwd=file.parent
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize("minor", PYTHONS)
def test_a_crash_that_faulthandler_tells_of(minor: int, tmp_path: Path) -> None:
    output, errors = run_python(minor, tmp_path / "crash é.py", CRASH)
    ident, native_id = map(int, output.split())
    threads = parse_faulthandler(errors, native_ids={ident: native_id}, names={ident: "MainThread"})
    assert len(threads) == 2, errors
    (current,) = [thread for thread in threads if thread.is_current]
    assert (current.ident, current.native_id, current.name) == (ident, native_id, "MainThread")
    python = [(frame.file, frame.line, frame.function) for frame in current.frames if not frame.native]
    assert python[:2] == [
        (str(tmp_path / "crash é.py"), 18, "<module>"),
        (str(tmp_path / "crash é.py"), 13, "a_test"),
    ]
    (other,) = [thread for thread in threads if not thread.is_current]
    assert other.frames[-1].function == "wait_for_ever"


@pytest.mark.parametrize("minor", PYTHONS)
def test_a_deep_stack_that_faulthandler_cuts(minor: int, tmp_path: Path) -> None:
    (thread,) = parse_faulthandler(run_python(minor, tmp_path / "dump.py", DUMP)[1])
    python = [frame for frame in thread.frames if not frame.native]
    assert len(python) == 100
    assert {frame.function for frame in python} == {"recurse"}


# ---- pystack, in the collector's environment, on a real snapshot -------------------------------------------

COLLECTOR = """
import sys; sys.path += sys.argv[1:]
import json, os, time
from pathlib import Path
from pytest_gencore.collector.core.core_source import read_core_source
from pytest_gencore.collector.source.handover import parse_handover
from pytest_gencore.collector.stacks.pystack_reader import find_program, read_snapshot_stacks, read_stacks
from pytest_gencore.collector.source.snapshot import Snapshot
os.chdir("/")
with open(3, "rb") as file:
    handover = parse_handover(file.read())
snapshot = Snapshot(handover.snapshot_pid, 6, 7)
program = find_program(PYSTACK)
started = time.monotonic()
by_process = read_snapshot_stacks(program, snapshot.pid)
process_seconds = time.monotonic() - started
core = read_core_source(handover, snapshot, lambda core: core).build_core(0x11)
path = handover.directory / "core for pystack"
started = time.monotonic()
by_core = read_stacks(program, snapshot.pid, core, path, handover.context.run.executable)
seconds = [process_seconds, time.monotonic() - started]
left = path.exists()
state = Path(f"/proc/{snapshot.pid}/stat").read_text().rpartition(")")[2].split()[0]
snapshot.end()
answer = [by_process.text, by_process.reason, by_core.text, by_core.reason, seconds, left, state]
(handover.directory / "part").write_text(json.dumps([*answer, handover.context.stacks, handover.tid]))
(handover.directory / "part").rename(handover.directory / "answer")
"""
SUBJECT = """
import json, sys, threading, time
from pathlib import Path
from pytest_gencore.capture import engine, start
program, pystack = sys.argv[2:]
engine._KEPT_ENVIRONMENT = ("PATH", "HOME")
describe = start.collector_command
def command(**options):
    parts = describe(**options)
    parts[parts.index("-c") + 1] = program.replace("PYSTACK", repr(pystack))
    return parts
start.collector_command = command
from subjects import Captures, report
first, second = threading.Lock(), threading.Lock()
both = threading.Barrier(2)
def take_locks(one, other, value):
    with one:
        both.wait()
        with other:
            raise AssertionError
for number, locks in enumerate([(first, second), (second, first)]):
    arguments = (*locks, "line\\nTraceback")
    threading.Thread(target=take_locks, args=arguments, name=f"taker {number}", daemon=True).start()
time.sleep(0.3)
def a_test(number=42):
    text = "one" + chr(10) + "two"
    captures = Captures(sys.argv[1])
    captures.take()
    answer = Path(sys.argv[1], "answer")
    for _ in range(300):
        if answer.exists():
            break
        time.sleep(0.1)
    return json.loads(answer.read_text())
answer = a_test()
report(answer=answer)
import os
os._exit(0)
"""


def read_with_pystack(tmp_path: Path, python: str | None) -> list[Any]:
    pystack = find_python_program("pystack")
    assert pystack is not None
    answer: list[Any] = run_subject(SUBJECT, tmp_path, COLLECTOR, pystack, python=python)["answer"]
    return answer


@pytest.mark.slow(rows=2)
@needs("pystack")
@pytest.mark.parametrize("minor", PYTHONS)
def test_pystack_reads_a_snapshot(minor: int, tmp_path: Path) -> None:
    by_process, no_reason, by_core, no_core_reason, _, left, state, stacks, tid = read_with_pystack(
        tmp_path, find_interpreter(minor)
    )
    assert (no_core_reason, left) == ("", False)
    assert not no_reason or minor == 10
    assert state in "SR", "neither stopped nor traced"
    known = threads_of([ThreadStack(*stack) for stack in stacks])
    assert len(known) == 3
    texts = [(by_core, True)] if no_reason else [(by_process, False), (by_core, True)]
    for text, has_native in texts:
        threads = parse_pystack(text)
        assert {thread.native_id for thread in threads} == {thread.native_id for thread in known}
        assert [thread.native_id for thread in threads if thread.holds_gil] == [tid]
        merged = merge_threads(known, threads)
        assert [thread.name for thread in merged] == [thread.name for thread in known]
        for before, after in zip(known, merged, strict=True):
            python = [frame for frame in after.frames if not frame.native]
            assert [(frame.file, frame.function.rpartition(".")[2]) for frame in python] == [
                (frame.file, frame.function.rpartition(".")[2]) for frame in before.frames
            ]
        assert any(frame.native for frame in merged[1].frames) is has_native
        takers = [frame for thread in merged[1:] for frame in thread.frames if frame.function == "take_locks"]
        assert [dict(frame.locals)["value"] for frame in takers] == [r'"line\nTraceback"'] * 2
        (test,) = [frame for frame in merged[0].frames if frame.function == "a_test"]
        assert (dict(test.locals)["number"], dict(test.locals)["text"]) == ("42", '"one\ntwo"')
        facts = Facts(trigger="request", pid=1)
        answer = make_answer(facts, merged)
        assert any(", in a_test" in line for line in answer[:15])
        assert sum("waiting for a lock" in line for line in answer[:30]) >= has_native
        assert format_full(facts, merged).count(", in take_locks\n") == 2


@pytest.mark.slow(rows=5)
@needs("pystack")
@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        ("print('all')", "all\n", ""),
        ("import resource as r; print(r.getrlimit(r.RLIMIT_DATA)[0])", f"{1 << 30}\n", ""),
        ("print('some', flush=True); time.sleep(60)", "some\n", "pystack was not finished after 2 s"),
        ("os.close(1); os.close(2); time.sleep(60)", "", "pystack was not finished after 2 s"),
        ("while True: print('x' * 1000)", None, "pystack printed more than 4096 bytes"),
        (
            "print('a'); sys.exit('\U0001f480 no such process \U0001f480\\nhelp')",
            "a\n",
            "status 1: no such process",
        ),
        ("os.kill(os.getpid(), 9)", "", "pystack ended with signal 9"),
        ("raise ValueError('what')", "", "status 1: ValueError: what"),
        ("", "", "pystack printed nothing"),
        ("sys.stderr.write('e' * 1000000)", "", "pystack printed nothing"),
        ("if os.fork() == 0: time.sleep(60)", "", "pystack was not finished after 2 s"),
    ],
)
def test_whatever_pystack_does(body: str, text: str | None, reason: str, tmp_path: Path) -> None:
    started = time.monotonic()
    output = pystack_reader.read_snapshot_stacks(fake_pystack(tmp_path, body), 1, timeout=2, limit=4096)
    assert reason in output.reason
    assert bool(reason) is bool(output.reason)
    assert output.text == (text if text is not None else output.text)
    assert len(output.text) <= 4096
    assert time.monotonic() - started < 10


def test_no_pystack(tmp_path: Path) -> None:
    gone = pystack_reader.read_snapshot_stacks(str(tmp_path / "gone"), 1)
    assert gone == pystack_reader.PystackOutput("", "pystack cannot be started: No such file or directory")
    assert "null byte" in pystack_reader.read_snapshot_stacks("/a\0b", 1).reason


@pytest.mark.parametrize(
    ("value", "program"),
    [
        ("/bin/pystack", "/bin/pystack"),
        ("pystack", None),
        (None, None),
        ([], None),
        ({"a": 1}, None),
    ],
)
def test_find_program(value: object, program: str | None) -> None:
    assert pystack_reader.find_program(value) == program
