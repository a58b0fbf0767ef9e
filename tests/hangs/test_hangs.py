"""Tests that hang: captured at their deadline, on the stack that they hang in, whoever holds the GIL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_manifest, read_member
from junit_file import read_junit
from oracles import gdb_stacks, pystack_threads, run_gdb
from projects import EXITS, OPENED, QUICK

if TYPE_CHECKING:
    from pathlib import Path

    from projects import Project

HANGS = """
    import ctypes, itertools
    LIBRARY = ctypes.PyDLL({library!r})  # PyDLL does not release the GIL
    def test_before(): pass
    def test_mutex():
        LIBRARY.deadlock_outer()  # hangs here
    def test_repeat():
        sum(itertools.repeat(0))  # hangs here
    def test_after(): pass
"""
DEADLINES = {
    "signal": ("--timeout=1.5", "--timeout-method=signal"),
    "thread": ("--timeout=1.5", "--timeout-method=thread"),
    "own": ("--gencore-timeout=1.5", *EXITS),
}
SOURCES = {"signal": "pytest-timeout", "thread": "pytest-timeout", "own": "gencore"}


def check_hang(project: Project, archive: Path, hang: str, source: str, *, pystack: bool = True) -> None:
    """The core shows what the test hangs in, and no signal handler on top of it."""
    manifest = read_manifest(archive)
    trigger = manifest["trigger"]
    assert (trigger["kind"], trigger["deadline_s"], trigger["deadline_source"]) == ("timeout", 1.5, source)
    assert (trigger["signal"], trigger["address"]) == (None, None)
    assert (manifest["nodeid"], manifest["phase"]) == (f"test_a.py::{hang}", "call")
    stacks = read_member(archive, "stacks.txt").decode()
    title = f"took longer than 1.5 s (timeout of {source}): test_a.py::{hang}, "
    assert any(line.startswith(title) for line in stacks.splitlines()[:2])
    assert f", in {hang}\n" in stacks
    folder = project.unpack(archive)
    stack = run_gdb(folder, "set width 0", "set print frame-arguments none", "echo @@\\n", "bt 12")
    stack = stack.partition("@@\n")[2].lstrip()
    assert "signal handler called" not in stack
    assert "gencore" not in stack
    if hang == "test_mutex":
        order = [
            stack.index(f"{name} (") for name in ("pthread_mutex_lock", "deadlock_inner", "deadlock_outer")
        ]
        assert order == sorted(order), "the blocking call is above the C frames of the test"
        assert re.match(r"#0 .*(futex|lock)", stack), "the stack ends in the blocking call"
    else:
        assert "deadlock" not in stack
    if not pystack:
        return
    python = pystack_threads(folder / "core")[manifest["pid"]]
    assert f", in {hang}\n" in python
    assert "# hangs here" in python


@pytest.mark.slow(rows=1)
@needs("gdb", "gcc", "pystack")
@pytest.mark.parametrize("hang", ["test_mutex", "test_repeat"])
@pytest.mark.parametrize("deadline", list(DEADLINES))
def test_hang_with_the_gil_held(project: Project, crashers: Path, hang: str, deadline: str) -> None:
    """Neither method of pytest-timeout ever fires: the process is killed, or ended by our own timeout."""
    project.write(test_a=HANGS.format(library=str(crashers)))
    running = project.start(f"test_a.py::{hang}", *OPENED, *DEADLINES[deadline])

    (archive,) = project.wait_for_archives()
    if deadline == "own":
        ended = running.end()
        assert ended.status == 1
        assert "the process ends: gencore_exit_on_timeout" in ended.err
        assert ended.announced() == [str(archive)]
    else:
        assert running.process.poll() is None, "it hangs as it would without us"
        running.kill()

    check_hang(project, archive, hang, SOURCES[deadline])
    assert project.find_archives() == [archive]


@pytest.mark.slow
@needs("gdb", "gcc")
@pytest.mark.parametrize("deadline", list(DEADLINES))
def test_hang_of_a_worker_with_the_gil_held(project: Project, crashers: Path, deadline: str) -> None:
    """Our own timeout, later than that of pytest-timeout, ends the worker: the other tests run."""
    project.write(test_a=HANGS.format(library=str(crashers)))
    later = () if deadline == "own" else ("--gencore-timeout=4", *EXITS)

    ended = project.run("-n1", "--junitxml=j.xml", *OPENED, *DEADLINES[deadline], *later)

    assert ended.counts() == {"failed": 2, "passed": 2}
    archives = project.archives()
    assert sorted(archives) == ["test_a.py::test_mutex call", "test_a.py::test_repeat call"]
    cases = {case.name: case for case in read_junit(project.folder / "j.xml")}
    for hang in ("test_mutex", "test_repeat"):
        archive = archives[f"test_a.py::{hang} call"]
        check_hang(project, archive, hang, SOURCES[deadline], pystack=False)
        assert cases[hang].archives == cases[hang].attachments == (str(archive),)
    assert "2 captured" in ended.out


LOCKS = """
    import threading
    one, two = threading.Lock(), threading.Lock()
    both = threading.Barrier(2)
    def lock_one_then_two():
        with one:
            both.wait()
            with two:
                pass
    def lock_two_then_one():
        with two:
            both.wait()
            with one:
                pass
    def test_locks():
        threading.Thread(target=lock_two_then_one, daemon=True).start()
        lock_one_then_two()
"""


@pytest.mark.slow
@needs("gdb", "pystack")
def test_two_threads_and_two_locks(project: Project) -> None:
    project.write(test_a=LOCKS)

    ended = project.run(*OPENED, "--gencore-timeout=1.5", *EXITS, pystack=True)

    assert ended.status == 1
    archive = project.only_archive()
    manifest = read_manifest(archive)
    main = manifest["pid"]
    stacks = read_member(archive, "stacks.txt").decode()
    for function in ("lock_one_then_two", "lock_two_then_one"):
        assert f", in {function}\n" in stacks
        assert f", in {function}\n" in ended.err
    assert stacks.count("waiting for a lock, most recent call last") == 2
    folder = project.unpack(archive)
    python = pystack_threads(folder / "core")
    assert ", in lock_one_then_two\n" in python[main]
    (other,) = [tid for tid, stack in python.items() if ", in lock_two_then_one\n" in stack]
    native = gdb_stacks(folder)
    for tid in (main, other):
        blocked = native[tid].splitlines()[:4]
        assert any("futex" in line or "sem_wait" in line for line in blocked), native[tid]


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("kind", ["asyncio", "anyio"])
def test_hang_of_an_event_loop(project: Project, kind: str) -> None:
    project.write(
        test_a=f"""
        import asyncio, pytest
        @pytest.fixture
        def anyio_backend(): return "asyncio"
        @pytest.mark.{kind}
        async def test_loop():
            await asyncio.Event().wait()
        """
    )

    ended = project.run(*QUICK, "-p", kind, "--timeout=1.5", "--timeout-method=signal")

    assert ended.counts() == {"failed": 1}
    stacks = read_member(project.only_archive(), "stacks.txt").decode()
    assert "run_until_complete" in stacks or "run_forever" in stacks
    assert "select" in stacks


@pytest.mark.slow
def test_patched_clocks_and_files(project: Project) -> None:
    """The handler asks neither Python's clocks nor its file system."""
    project.write(
        test_a="""
        import threading, freezegun, pytest
        @pytest.mark.timeout(1.5, method="signal")
        def test_frozen():
            with freezegun.freeze_time("2001-01-01"):
                threading.Event().wait()
        @pytest.mark.timeout(1.5, method="signal")
        def test_fake(fs):
            threading.Event().wait()
        """
    )

    ended = project.run(*QUICK, "-p", "fakefs")

    assert ended.counts() == {"failed": 2}
    archives = project.archives()
    assert sorted(archives) == ["test_a.py::test_fake call", "test_a.py::test_frozen call"]
    for archive in archives.values():
        assert read_manifest(archive)["trigger"]["kind"] == "timeout"


@pytest.mark.slow
def test_rerun_of_a_hang(project: Project) -> None:
    """One archive a test: that of the first attempt."""
    project.write(
        test_a="""
        import threading
        def test_slow(): threading.Event().wait()
        """
    )

    ended = project.run(
        *QUICK, "--timeout=1.5", "--timeout-method=signal", "-otimeout_func_only=true", "--reruns=1"
    )

    assert ended.counts() == {"failed": 1, "rerun": 1}
    assert read_manifest(project.only_archive())["attempt"] == 1


MANY_THREADS = """
    import threading
    DONE = threading.Event()
    def idle(started):
        started.release()
        DONE.wait()
    def test_many():
        started = threading.Semaphore(0)
        for _ in range(130):
            threading.Thread(target=idle, args=(started,), daemon=True).start()
        for _ in range(130):
            started.acquire()
        hang()
    def hang():
        threading.Event().wait()  # hangs here
"""


@pytest.mark.slow(rows=1)
@pytest.mark.field
@pytest.mark.parametrize("deadline", ["signal", "own"])
def test_more_threads_than_faulthandler_walks(project: Project, deadline: str) -> None:
    """The thread that hangs comes first, with its frames; the others that were not read are counted."""
    project.write(test_a=MANY_THREADS)

    ended = project.run(*QUICK, *DEADLINES[deadline])

    text = ended.out + ended.err
    stacks = read_member(project.only_archive(), "stacks.txt").decode()
    for output in (text, stacks):
        assert re.search(r"Thread MainThread, native id \d+, ran the test", output)
        assert "threading.Event().wait()  # hangs here" in output
        assert "no Python frame" not in output
    main, others = stacks.index("Thread MainThread"), stacks.index(", in idle\n")
    assert main < others
    assert stacks.count("\nThread ") == 101
    pattern = r"^(\d+) more threads were not read: faulthandler stops at 100$"
    (unread,) = re.findall(pattern, stacks, re.MULTILINE)
    assert int(unread) == len(read_manifest(project.only_archive())["threads"]) - 101
    assert f"{unread} more threads were not read" in text
