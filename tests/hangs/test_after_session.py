"""The session is over, and the process does not end, or dies while it ends."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest
from kernel import wait_until
from oracles import run_tool
from projects import EXITS, QUICK, SUPPORT

if TYPE_CHECKING:
    from projects import Project

pytestmark = pytest.mark.field

HANGS = {
    "thread": (
        """
        import threading
        def listen():
            threading.Event().wait()
        def test_it():
            threading.Thread(target=listen, name="listener").start()
        """,
        "after the session, process ",
        "gencore: waits for the end of thread 'listener' (test_a.py:4), which waits for an event, not set",
        "  listener (test_a.py:4) is not a daemon; it waits for an event, not set",
    ),
    "executor": (
        """
        import threading
        from concurrent.futures import ThreadPoolExecutor
        def work():
            threading.Event().wait()
        def test_it():
            ThreadPoolExecutor(1, thread_name_prefix="pool").submit(work)
        """,
        "after the session, process ",
        "gencore: waits for the end of thread 'pool_0' (test_a.py:5), which waits for an event, not set",
        "  pool_0 (test_a.py:5) is not a daemon; it waits for an event, not set",
    ),
    "child": (
        """
        import multiprocessing, time
        def test_it():
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)).start()
        """,
        "after the session, in atexit functions, process ",
        "gencore: waits for child ",
        "",
    ),
    "atexit": (
        """
        import atexit, threading
        def hang():
            threading.Event().wait()
        def test_it():
            atexit.register(hang)
        """,
        "after the session, in atexit functions, process ",
        "gencore: waits for an event, not set",
        'File "test_a.py", line 4, in hang',
    ),
}


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("case", HANGS)
def test_process_that_does_not_end(project: Project, case: str) -> None:
    source, place, verdict, evidence = HANGS[case]
    project.write(test_a=source)

    running = project.start(*QUICK, "--gencore-session-timeout=1", *EXITS)
    running.process.wait(timeout=60)
    running.kill_group()  # the child has standard output and error
    ended = running.end()

    assert ended.status == 1
    assert "1 passed" in ended.out
    assert f"gencore: no progress for 1 s (session timeout of gencore): {place}" in ended.err
    assert verdict in ended.err
    assert evidence in ended.err
    assert ended.announced() == [str(project.only_archive())]


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_cancelled_then(project: Project, number: signal.Signals) -> None:
    project.write(
        test_a="""
        import pathlib, threading
        def listen():
            threading.main_thread().join()  # which is over for "threading" when it waits for us
            pathlib.Path("here").touch()
            threading.Event().wait()
        def test_it():
            threading.Thread(target=listen, name="listener").start()
        """
    )
    running = project.start(*QUICK)
    wait_until((project.folder / "here").exists, "the session is over")

    running.process.send_signal(number)
    ended = running.end()

    assert ended.status == -number
    assert f"gencore: cancelled by {number.name} " in ended.err
    assert ended.announced() == [str(project.only_archive())]


CRASHES = {
    "atexit": (
        """
        import atexit, ctypes
        def test_it():
            atexit.register(ctypes.string_at, 8)
        """,
        "SIGSEGV (SEGV_MAPERR: address not mapped) at address 0x8, after the session, in atexit functions",
    ),
    "abort": (
        """
        import atexit, os
        def test_it():
            atexit.register(os.abort)
        """,
        "SIGABRT (SI_TKILL: sent with tkill or tgkill, as raise and abort do), after the session, in atexit",
    ),
    "destructor": (
        """
        import ctypes
        class Kept:
            def __init__(self):
                self.crash = ctypes.string_at
            def __del__(self):
                self.crash(8)
        kept = Kept()
        def test_it(): pass
        """,
        "at address 0x8, after the session, while the interpreter ends",
    ),
}


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["local", "xdist"])
@pytest.mark.parametrize("case", CRASHES)
def test_crash_at_the_end(project: Project, case: str, workers: tuple[str, ...]) -> None:
    source, line = CRASHES[case]
    project.write(test_a=source)
    usual = project.run(*workers)

    ended = project.run(*QUICK, *workers)

    assert ended.status == usual.status
    assert "1 passed" in ended.out
    assert line in (ended.out if workers else ended.err)
    archive = project.only_archive()
    assert read_manifest(archive)["nodeid"] is None
    bt = run_tool("gdb", "-batch", "-ex", "bt", "-c", project.unpack(archive) / "core", sys.executable)
    assert "#0" in bt


@pytest.mark.slow
def test_program_that_calls_pytest(project: Project) -> None:
    """It has more to do than the tests: it gets its signals back."""
    project.write(test_a="def test_it(): pass")
    project.write(
        program=f"""
        import pytest, sys
        sys.path.insert(0, {str(SUPPORT)!r})
        from process_state import describe_process
        assert pytest.main(["-q", *sys.argv[1:]]) == 0
        state = describe_process()
        handled = [number for number, action in state["actions"].items() if set(action[:16]) != {{"0"}}]
        print(handled, len(state["descriptors"]))
        """
    )

    usual, ended = (
        project.run_program("program.py", *arguments)
        for arguments in ((), ("--gencore-on-fail", "--gencore-session-timeout=60"))
    )

    assert ended.status == usual.status == 0
    assert ended.out.splitlines()[-1] == usual.out.splitlines()[-1]
