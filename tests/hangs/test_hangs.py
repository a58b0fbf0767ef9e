"""Tests that hang: captured at their deadline, on the stack that they hang in, whoever holds the GIL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_manifest, read_member
from junit_file import read_junit
from oracles import gdb_stacks, pystack_threads, run_gdb
from projects import EXITS, QUICK

from pytest_gencore import read_archive

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
    assert f"took longer than 1.5 s (timeout of {source})" in stacks.splitlines()[0]
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


@needs("gdb", "gcc", "pystack")
@pytest.mark.parametrize("hang", ["test_mutex", "test_repeat"])
@pytest.mark.parametrize("deadline", list(DEADLINES))
def test_hang_with_the_gil_held(project: Project, crashers: Path, hang: str, deadline: str) -> None:
    """Neither method of pytest-timeout ever fires: the process is killed, or ended by our own timeout."""
    project.write(test_a=HANGS.format(library=str(crashers)))
    running = project.start(f"test_a.py::{hang}", *QUICK, *DEADLINES[deadline])

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


@needs("gdb", "gcc")
@pytest.mark.parametrize("deadline", list(DEADLINES))
def test_hang_of_a_worker_with_the_gil_held(project: Project, crashers: Path, deadline: str) -> None:
    """Our own timeout, later than that of pytest-timeout, ends the worker: the other tests run."""
    project.write(test_a=HANGS.format(library=str(crashers)))
    later = () if deadline == "own" else ("--gencore-timeout=4", *EXITS)

    ended = project.run("-n1", "--junitxml=j.xml", *QUICK, *DEADLINES[deadline], *later)

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


@needs("gdb", "pystack")
def test_two_threads_and_two_locks(project: Project) -> None:
    project.write(test_a=LOCKS)

    ended = project.run(*QUICK, "--gencore-timeout=1.5", *EXITS, pystack=True)

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


SLEEPS = """
    import threading
    def test_before(): pass
    def test_sleep():
        threading.Event().wait()
    def test_after(): pass
"""
THREAD_METHOD = ("--timeout=1.5", "--timeout-method=thread")


def check_whole(archive: Path, folder: Path) -> None:
    """All of the archive can be read by our own reader, and its core is complete."""
    top = read_archive(archive).unpack(folder)
    assert (top / "core").stat().st_size > 0
    assert ", in test_sleep\n" in (top / "stacks.txt").read_text()


def test_thread_method_leaves_a_whole_archive(project: Project) -> None:
    """``os._exit`` while the collector works: it goes on, and tells the path itself."""
    project.write(test_a=SLEEPS)

    ended = project.run(*QUICK, *THREAD_METHOD, "--junitxml=j.xml")

    assert ended.status == 1
    archive = project.only_archive()
    assert ended.announced() == [str(archive)]
    assert "Timeout" in ended.out
    check_whole(archive, project.folder / "unpacked")
    before, slept = read_junit(project.folder / "j.xml")
    assert (before.name, before.results) == ("test_before", ())
    assert (slept.name, slept.results, slept.archives) == ("test_sleep", ("error",), (str(archive),))


@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
def test_thread_method_waits_for_a_late_capture(project: Project, workers: list[str]) -> None:
    """On a busy machine the thread that ends the process may run before the one that captures."""
    project.write(
        conftest="import pytest_gencore.plugin.deadlines as module\nmodule.LEAD_SECONDS = -0.5",
        test_a=SLEEPS,
    )

    ended = project.run(*workers, *QUICK, *THREAD_METHOD)

    assert ended.status == 1
    assert ("crashed while running" if workers else "+ Timeout +") in ended.out
    check_whole(project.only_archive(), project.folder / "unpacked")


def test_thread_method_in_a_worker(project: Project) -> None:
    project.write(test_a=SLEEPS)

    ended = project.run("-n1", *QUICK, *THREAD_METHOD, "--junitxml=j.xml")

    assert ended.counts() == {"failed": 1, "passed": 2}
    archive = project.only_archive()
    check_whole(archive, project.folder / "unpacked")
    cases = {case.name: case for case in read_junit(project.folder / "j.xml")}
    assert cases["test_sleep"].archives == cases["test_sleep"].attachments == (str(archive),)
    assert f"gencore: core archive: {archive}" in ended.out
    assert not ended.announced(), "the controller tells"


def test_signal_method_gives_its_report_the_one_capture(project: Project) -> None:
    """The capture at the deadline is the one of the failure that follows."""
    project.write(test_a=SLEEPS)

    ended = project.run(*QUICK, "--timeout=1.5", "--timeout-method=signal", "--junitxml=j.xml")

    assert ended.counts() == {"failed": 1, "passed": 2}
    archive = project.only_archive()
    manifest = read_manifest(archive)
    assert manifest["trigger"]["kind"] == "timeout"
    assert ", in test_sleep\n" in read_member(archive, "stacks.txt").decode(), "before it was unwound"
    cases = {case.name: case for case in read_junit(project.folder / "j.xml")}
    assert cases["test_sleep"].archives == cases["test_sleep"].attachments == (str(archive),)
    assert "took longer than 1.5 s (timeout of pytest-timeout)" in ended.out
    assert not ended.announced()


def test_own_timeout_alone_lets_the_test_pass(project: Project) -> None:
    project.write(
        test_a="""
        import threading, pathlib
        def test_slow():
            while not list(pathlib.Path("gencore-artifacts").glob("*.gz")):
                threading.Event().wait(0.05)
        def test_after(): pass
        """
    )

    ended = project.run(*QUICK, "--gencore-timeout=0.5", "--junitxml=j.xml")

    assert ended.status == 0
    assert ended.counts() == {"passed": 2}
    archive = project.only_archive()
    slow, after = read_junit(project.folder / "j.xml")
    assert slow.archives == slow.attachments == (str(archive),)
    assert not after.archives
    assert "1 captured" in ended.out
    assert "took longer than 0.5 s (timeout of gencore)" in ended.out


@pytest.mark.parametrize("armed", ["option", "marker"])
def test_timeout_of_a_marker(project: Project, armed: str) -> None:
    project.write(
        test_a="""
        import threading, pathlib, pytest
        @pytest.mark.gencore(timeout=0.5, method="memory")
        def test_slow():
            while not list(pathlib.Path("gencore-artifacts").glob("*.gz")):
                threading.Event().wait(0.05)
        """
    )

    ended = project.run(*(QUICK if armed == "option" else ["--gencore-filter=0x11"]))

    assert ended.counts() == {"passed": 1}
    assert list(project.archives()) == ["test_a.py::test_slow call"]


LATE = """
    import pytest_gencore.plugin.deadlines as deadlines
    deadlines.LEAD_SECONDS = 59
    deadlines.min = lambda lead, half: lead  # else the lead is at most half of the timeout
"""


@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
def test_test_that_ends_in_time_after_all(project: Project, workers: list[str]) -> None:
    """Captured a little before the deadline of pytest-timeout, which then is not reached."""
    project.write(
        conftest=LATE,
        test_a="""
        import pathlib, threading, pytest
        @pytest.mark.timeout(60)
        def test_in_time():
            while not list(pathlib.Path("gencore-artifacts").glob("*.partial")):
                threading.Event().wait(0.01)
        def test_after():
            pass
        """,
    )

    ended = project.run(*workers, *QUICK, "--junitxml=j.xml")

    assert ended.counts() == {"passed": 2}
    assert not project.find_archives()
    assert not [case for case in read_junit(project.folder / "j.xml") if case.archives or case.output]
    assert "captured" not in ended.out


def test_only_the_time_of_the_test_counts(project: Project) -> None:
    """Our own clock stands still while fixtures of wider scopes are set up and torn down."""
    project.write(
        test_a="""
        import threading, pytest
        WAIT = 1.75
        @pytest.fixture(scope="module")
        def slow_module():
            threading.Event().wait(WAIT)
            yield
            threading.Event().wait(WAIT)
        @pytest.fixture
        def slow_function():
            threading.Event().wait(WAIT)
        def test_module(slow_module): pass
        """,
        test_b="""
        from test_a import slow_function
        def test_function(slow_function): pass
        """,
        test_c="""
        import threading, pytest
        from test_a import WAIT
        @pytest.fixture
        def slow_end():
            yield
            threading.Event().wait(WAIT)
        def test_end(slow_end): pass
        """,
    )

    ended = project.run(*QUICK, "--gencore-timeout=1")

    assert ended.counts() == {"passed": 3}
    assert sorted(project.archives()) == ["test_b.py::test_function setup", "test_c.py::test_end teardown"]


def test_func_only_of_pytest_timeout(project: Project) -> None:
    project.write(
        test_a="""
        import threading, pytest
        @pytest.fixture
        def slow():
            threading.Event().wait(2.5)
        @pytest.mark.timeout(1.25, func_only=True, method="signal")
        def test_fixture(slow): pass
        @pytest.mark.timeout(1.25, func_only=True, method="signal")
        def test_call():
            threading.Event().wait()
        """
    )

    ended = project.run(*QUICK)

    assert ended.counts() == {"failed": 1, "passed": 1}
    assert list(project.archives()) == ["test_a.py::test_call call"]


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


def test_no_deadline_in_the_debugger(project: Project) -> None:
    """With ``--pdb``, after ``breakpoint()`` and under a tracer a person may be thinking."""
    project.write(
        test_a="""
        import threading
        def test_slow():
            threading.Event().wait(1)
        """
    )

    ended = project.run(*QUICK, "--gencore-timeout=0.25", "--pdb")

    assert ended.counts() == {"passed": 1}
    assert not project.find_archives()


def test_no_deadline_after_breakpoint(project: Project) -> None:
    project.write(
        test_a="""
        import threading
        def test_slow():
            breakpoint()
            threading.Event().wait(1)
        """
    )
    (project.folder / "commands").write_text("continue\n")

    ended = project.run(
        *QUICK, "--gencore-timeout=0.75", "-s", prefix=("sh", "-c", 'exec "$@" <commands', "sh")
    )

    assert ended.counts() == {"passed": 1}
    assert "PDB continue" in ended.out
    assert not project.find_archives()


@needs("gdb")
def test_no_deadline_under_gdb(project: Project) -> None:
    """gdb does not even stop: there is no timer."""
    project.write(
        test_a="""
        import pathlib, threading
        def test_slow():
            threading.Event().wait(1)
        """
    )

    ended = project.run(
        *QUICK, "--gencore-timeout=0.25", prefix=("gdb", "-nx", "-batch", "-ex", "run", "--args")
    )

    assert "1 passed" in ended.out
    assert "exited normally" in ended.out
    assert "received signal" not in ended.out
    assert not project.find_archives()


TRACER = """
import ctypes, os, sys
libc, process = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
assert libc.ptrace(0x4206, process, None, None) == 0, os.strerror(ctypes.get_errno())  # PTRACE_SEIZE
print("attached", flush=True)
while True:
    _, status = os.waitpid(process, 0x40000000)  # __WALL
    if not os.WIFSTOPPED(status):
        break
    libc.ptrace(7, process, None, os.WSTOPSIG(status))  # PTRACE_CONT
"""


@needs("root")
def test_no_deadline_while_somebody_is_attached(project: Project) -> None:
    project.write(
        tracer=TRACER,
        test_a="""
        import os, subprocess, sys, threading
        def test_slow():
            command = [sys.executable, "tracer.py", str(os.getpid())]
            tracer = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert tracer.stdout.readline() == b"attached\\n"
            threading.Event().wait(4)
            tracer.kill()
            tracer.wait()
        """,
    )

    ended = project.run(*QUICK, "--gencore-timeout=3")

    assert ended.counts() == {"passed": 1}
    assert not project.find_archives()


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


def test_exit_on_timeout_without_a_capture(project: Project) -> None:
    """The process ends, also if there can be no archive: else the run would hang."""
    project.write(
        test_a="""
        import threading
        def test_slow(): threading.Event().wait()
        """
    )
    (project.folder / "file").touch()

    ended = project.run(*QUICK, "--gencore-timeout=0.5", *EXITS, "--gencore-dir=file")

    assert ended.status == 1
    assert "gencore: no core archive: cannot make or open the directory" in ended.err


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
