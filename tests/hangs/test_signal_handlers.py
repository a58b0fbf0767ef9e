"""Others with handlers and timers of their own: they work as without us, and we with them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_manifest, read_member
from projects import QUICK

if TYPE_CHECKING:
    from pathlib import Path

    from projects import Project

SEGV = -signal.SIGSEGV


def test_faulthandler_disabled_by_the_test(project: Project) -> None:
    """Its text is gone, as asked for; the capture is not."""
    project.write(
        test_a="import ctypes, faulthandler\ndef test_a():\n  faulthandler.disable()\n  ctypes.string_at(8)"
    )

    ended = project.run(*QUICK)

    assert ended.status == SEGV
    assert "Fatal Python error" not in ended.err
    assert ended.announced() == [str(project.only_archive())]


@pytest.mark.parametrize("where", ["same test", "next test"])
def test_faulthandler_enabled_again_by_the_test(project: Project, where: str) -> None:
    project.write(
        test_a=f"""
        import ctypes, faulthandler, sys
        def test_1():
            faulthandler.disable()
            faulthandler.enable(file=sys.__stderr__)
            if {where == "same test"}: ctypes.string_at(8)
        def test_2(): ctypes.string_at(8)
        """
    )

    ended = project.run(*QUICK, "-s")

    assert ended.status == SEGV
    assert ended.err.count("Fatal Python error: Segmentation fault") == 1
    number = 1 if where == "same test" else 2
    assert list(project.archives()) == [f"test_a.py::test_{number} call"]
    if where == "next test":
        assert "at address 0x8" in ended.err


def test_handler_of_python_stays_the_first(project: Project) -> None:
    """``signal.signal``: whoever installs a handler gets the signal."""
    project.write(
        test_a="""
        import os, signal
        calls = []
        def test_1():
            signal.signal(signal.SIGABRT, lambda *_: calls.append(1))
            os.kill(os.getpid(), signal.SIGABRT)
            assert calls == [1]
        def test_2():
            os.kill(os.getpid(), signal.SIGABRT)
            assert calls == [1, 1], "neither does the next test take it away"
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
        def test_3(): os.abort()
        """
    )

    ended = project.run(*QUICK)

    assert ended.status == -signal.SIGABRT
    assert list(project.archives()) == ["test_a.py::test_3 call"]


@needs("gcc")
def test_handler_of_c_that_recovers(project: Project, crashers: Path) -> None:
    """As garbage collectors and emulators have one: the fault is theirs."""
    project.write(
        test_a=f"""
        import ctypes
        LIBRARY = ctypes.CDLL({str(crashers)!r})
        def test_1(): assert LIBRARY.recover(3) == 3
        def test_2(): assert LIBRARY.recover(3) == 6
        """
    )

    ended = project.run(*QUICK)

    assert ended.counts() == {"passed": 2}
    assert not project.find_archives()


def test_handlers_of_real_time_signals(project: Project) -> None:
    """Deadlines take signals that are free; a test may take all others, or take ours away."""
    project.write(
        test_a="""
        import os, pathlib, signal, threading, time, pytest
        calls = []
        @pytest.mark.gencore(timeout=50)
        def test_1():
            for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
                signal.signal(number, lambda number, _: calls.append(number))
                os.kill(os.getpid(), number)
            assert calls == list(range(signal.SIGRTMIN, signal.SIGRTMAX + 1))
        @pytest.mark.gencore(timeout=0.2)
        def test_2():
            threading.Event().wait(0.5)
            assert len(calls) == signal.SIGRTMAX + 1 - signal.SIGRTMIN, "none came to the test's"
        @pytest.mark.gencore(timeout=0.5)
        def test_3():
            for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
                signal.signal(number, signal.SIG_DFL)
        @pytest.mark.gencore(timeout=0.5)
        def test_4():
            while not list(pathlib.Path("gencore-artifacts").glob("*.gz")):
                threading.Event().wait(0.05)
        """
    )

    ended = project.run(*QUICK)

    assert ended.counts() == {"passed": 4}
    assert list(project.archives()) == ["test_a.py::test_4 call"]


@pytest.mark.slow
@pytest.mark.field
def test_faulthandler_timeout(project: Project) -> None:
    """Its own watchdog prints and ends the process; ours has been before."""
    project.write(test_a="import threading\ndef test_a(): threading.Event().wait()\ndef test_b(): pass")

    ended = project.run(
        *("-n1", *QUICK, "--gencore-timeout=0.5"),
        *("-ofaulthandler_timeout=1.5", "-ofaulthandler_exit_on_timeout=true"),
    )

    assert ended.counts() == {"failed": 1, "passed": 1}
    assert "Timeout (0:00:01.5" in ended.err
    assert f"gencore: core archive: {project.shown(project.only_archive())}" in ended.out


@pytest.mark.slow
def test_handlers_are_gone_at_the_end(project: Project) -> None:
    """Whoever runs after ``pytest.main`` finds the process as it was."""
    project.write(
        test_a="def test_a(): pass",
        run="""
        import ctypes, faulthandler, sys, pytest
        libc = ctypes.CDLL(None)
        def actions():
            found = []
            for number in range(1, 65):
                action = (ctypes.c_uint64 * 20)()
                libc.sigaction(number, None, action)
                found.append(action[0])
            return found
        pytest.main(["-p", "no:gencore", *sys.argv[1:3]])  # others leave something on first use
        before = actions()
        assert pytest.main(sys.argv[1:]) == 0
        assert actions() == before
        faulthandler.enable()
        before = actions()
        assert pytest.main(sys.argv[1:]) == 0
        assert actions() == before
        print("as before")
        """,
    )

    for options in ([*QUICK, "--gencore-timeout=60"], [*QUICK, "-p", "no:faulthandler"]):
        ended = project.run_program("run.py", "-q", "-pno:cacheprovider", *options)
        assert ended.status == 0, ended.out + ended.err
        assert "as before" in ended.out


def test_own_timeout_does_not_disturb_system_calls(project: Project) -> None:
    """A blocking ``read`` in C goes on after the capture: nothing but our own clock has run out."""
    project.write(
        test_a="""
        import ctypes, os, pathlib, threading
        libc = ctypes.CDLL(None, use_errno=True)
        def test_read():
            out, into = os.pipe()
            def write_late():
                while not list(pathlib.Path("gencore-artifacts").glob("*.gz")):
                    threading.Event().wait(0.05)
                os.write(into, b"x")
            threading.Thread(target=write_late).start()
            buffer = ctypes.create_string_buffer(1)
            assert libc.read(out, buffer, 1) == 1, os.strerror(ctypes.get_errno())
        """
    )

    ended = project.run(*QUICK, "--gencore-timeout=0.5")

    assert ended.counts() == {"passed": 1}
    assert read_manifest(project.only_archive())["trigger"]["kind"] == "timeout"


def test_alarm_that_comes_during_the_capture_is_not_lost(project: Project) -> None:
    """Python's handler of SIGALRM runs, and the test, which waits for a lock, is ended by pytest-timeout."""
    project.write(
        test_a="""
        import threading, pytest
        @pytest.mark.parametrize("number", range(3))
        def test_lock(number):
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        """
    )

    ended = project.run(*QUICK, "--timeout=0.75", "--timeout-method=signal")

    assert ended.counts() == {"failed": 3}
    for archive in project.find_archives():
        assert ", in test_lock\n" in read_member(archive, "stacks.txt").decode()
    assert len(project.find_archives()) == 3
