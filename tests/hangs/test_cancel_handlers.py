"""Handlers of tests, of debuggers and of whoever started the run come before ours."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from cancelled_runs import HANG, cancel
from junit_file import read_junit
from projects import QUICK

if TYPE_CHECKING:
    from projects import Project


@pytest.mark.slow(rows=3)
@pytest.mark.parametrize(
    ("handler", "status"),
    [("sys.exit(7)", 1), ("os._exit(9)", 9)],
    ids=["raises", "exits"],
)
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_handlers_of_tests_come_first(project: Project, number: str, handler: str, status: int) -> None:
    project.write(
        test_a=f"""
        import os, pathlib, signal, sys, threading
        def test_handled():
            signal.signal(signal.{number}, lambda *_: {handler})
            pathlib.Path("here").touch()
            threading.Event().wait(60)
        """
    )
    running = project.start(*QUICK, "--gencore-max-cores=0")

    cancel(project, running, signal.Signals[number])
    ended = running.end()

    assert ended.status == status
    assert "cancelled by" not in ended.out + ended.err


@pytest.mark.field
def test_signals_that_tests_are_about(project: Project) -> None:
    """A process that interrupts itself, and children that are terminated as usual."""
    project.write(
        test_a="""
        import multiprocessing, os, signal, subprocess, sys, threading, time
        import pytest
        def test_interrupts_itself():
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(30)
        def test_raises():
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
        def test_child_by_fork(number):
            read_end, write_end = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.write(write_end, b".")
                    time.sleep(60)
                except KeyboardInterrupt:
                    os._exit(33)
                finally:
                    os._exit(44)
            os.read(read_end, 1)
            os.kill(child, number)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status == (33 if number == signal.SIGINT else -number)
        def test_pool():
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join()
            assert child.exitcode == -signal.SIGTERM
        def test_program():
            program = "import signal; print([signal.getsignal(n) for n in (1, 2, 15)])"
            out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
            assert out.count("SIG_DFL") == 2 and "default_int_handler" in out
        def test_what_python_sees():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            handler = lambda *_: None
            assert signal.signal(signal.SIGTERM, handler) == signal.SIG_DFL
            assert signal.signal(signal.SIGTERM, signal.SIG_DFL) is handler
        def test_sigwait():
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            try:
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
                assert signal.sigwait([signal.SIGTERM]) == signal.SIGTERM
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        """
    )

    ended = project.run(*QUICK)

    assert (ended.status, ended.counts()["passed"]) == (0, 9)
    assert "cancelled" not in ended.err
    assert not project.find_archives()


def test_displaced_handlers_are_put_back(project: Project) -> None:
    project.write(
        test_a="""
        import signal
        def test_displaces():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.signal(number, signal.SIG_IGN))
        """,
        test_b=HANG,
    )
    running = project.start(*QUICK, "--gencore-interrupt-after=0")

    cancel(project, running, signal.SIGINT)
    ended = running.end()

    assert ended.status == 2
    assert ended.announced()


def test_debugger_has_ctrl_c(project: Project) -> None:
    project.write(
        test_a="""
        import pathlib, pytest, time
        def test_debugged(pytestconfig):
            pytestconfig.hook.pytest_enter_pdb(config=pytestconfig, pdb=None)
            with pytest.raises(KeyboardInterrupt):
                pathlib.Path("here").touch()
                time.sleep(60)
        """
    )
    running = project.start(*QUICK, "--gencore-interrupt-after=0")

    cancel(project, running, signal.SIGINT)
    ended = running.end()

    assert ended.status == 0
    assert "cancelled" not in ended.err


def test_ignored_hangup_stays_ignored(project: Project) -> None:
    project.write(test_a=HANG)
    running = project.start(*QUICK, prefix=("nohup",))

    cancel(project, running, signal.SIGHUP)
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert "cancelled by SIGHUP" not in ended.err
    assert "cancelled by SIGTERM" in ended.err


@pytest.mark.slow
def test_test_that_takes_the_signal_itself(project: Project) -> None:
    """It passes, and the junit XML says so: nobody's run is cancelled."""
    project.write(
        test_a="""
        import os, signal, subprocess, time
        import pytest
        def test_it():
            with pytest.raises(KeyboardInterrupt):
                subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -INT {os.getpid()}"])
                time.sleep(100)
        """
    )
    for after in ("0", "10s"):
        ended = project.run(
            *QUICK, "--junitxml=j.xml", f"--gencore-interrupt-after={after}", "--gencore-children=dump"
        )

        assert ended.counts()["passed"] == 1
        assert [case.results for case in read_junit(project.folder / "j.xml")] == [()]
