"""Runs that are cancelled: SIGTERM, SIGHUP and SIGINT; what they leave, and that they end as without us."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from cancelled_runs import GIL_HELD, HANG, cancel
from capabilities import needs
from gencore_archives import read_manifest
from junit_file import read_junit
from kernel import wait_until
from limit_cases import Case, Injector
from projects import ARTIFACTS, QUICK

if TYPE_CHECKING:
    from projects import Project


@pytest.mark.slow(rows=2)
@pytest.mark.field
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("source", [HANG, GIL_HELD], ids=["waits", "holds the GIL"])
def test_terminated(project: Project, number: signal.Signals, source: str) -> None:
    project.write(test_a=source)
    running = project.start(*QUICK, "--junitxml=j.xml")

    cancel(project, running, number)
    ended = running.end()

    assert ended.status == -number
    sender = f"(sent by process {os.getpid()}, "
    assert f"gencore: cancelled by {number.name} {sender}" in ended.err
    assert ": test_a.py::test_hang, call, for " in ended.err
    (archive,) = ended.announced()
    trigger = read_manifest(project.only_archive())["trigger"]
    assert (trigger["kind"], trigger["signal"], trigger["signal_number"]) == ("cancel", number.name, number)
    assert (trigger["sender"]["pid"], trigger["sender"]["uid"]) == (os.getpid(), os.getuid())
    *finished, hang = read_junit(project.folder / "j.xml")
    assert [case.results for case in finished] == [()] * (2 if source is HANG else 0)
    assert (hang.name, hang.results, hang.archives) == ("test_hang", ("error",), (archive,))


def test_verdict(project: Project) -> None:
    project.write(test_a=HANG)
    running = project.start(*QUICK)

    cancel(project, running, signal.SIGTERM)

    assert "gencore: waits for queue.get() of an empty queue" in running.end().err


def test_signal_that_another_thread_gets(project: Project) -> None:
    """The kernel chooses it, and not always the first one."""
    project.write(
        test_a="""
        import queue, signal, threading
        def terminate():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        def test_hang():
            threading.Timer(0.1, terminate).start()
            queue.Queue().get()
        """
    )

    ended = project.run(*QUICK)

    assert ended.status == -signal.SIGTERM
    assert "gencore: cancelled by SIGTERM (sent by itself): test_a.py::test_hang, call, for " in ended.err
    assert re.search(r"^Thread MainThread, native id \d+, ran the test", ended.err, re.MULTILINE)
    assert len(re.findall(", ran the test", ended.err)) == 1


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_second_signal_ends_the_grace(project: Project, second: signal.Signals) -> None:
    project.write(test_a=HANG)
    stop = Case(0, "", (), set(), injected=(signal.SIGSTOP, "collector"), delay=0.0)
    with Injector(stop, project.folder) as injector:
        running = project.start(*QUICK, "--gencore-grace=50s")
        cancel(project, running, signal.SIGTERM)
        wait_until(lambda: injector.victims, "the collector is stopped")
        running.process.send_signal(second)
        assert running.process.wait(timeout=30) in {-second, -signal.SIGTERM}
    running.was_killed = True  # its collector was
    running.end()


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("milliseconds", [0.2, 1, 5])
def test_further_signals_do_not_end_the_snapshot(project: Project, milliseconds: float) -> None:
    """Whoever cancels a job signals all its processes, and some pass theirs on.

    The kernel gives them to another thread while the first one is blocked.
    """
    project.write(
        test_a="""
        import pathlib, threading
        def test_hang():
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            pathlib.Path("here").touch()
            threading.Event().wait()
        """
    )
    running = project.start(*QUICK)

    cancel(project, running, signal.SIGTERM)
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end:
        os.kill(running.process.pid, signal.SIGTERM)
    assert running.process.wait(timeout=30) == -signal.SIGTERM
    (archive,) = project.wait_for_archives()
    ended = running.end()

    assert ended.err.count("gencore: cancelled by SIGTERM") == 1
    assert read_manifest(archive)["nodeid"] == "test_a.py::test_hang"


def test_grace_is_the_longest_wait(project: Project) -> None:
    project.write(test_a=HANG)
    stop = Case(0, "", (), set(), injected=(signal.SIGSTOP, "collector"), delay=0.0)
    with Injector(stop, project.folder):
        running = project.start(*QUICK, "--gencore-grace=0.2s")
        cancel(project, running, signal.SIGTERM)
        assert running.process.wait(timeout=30) == -signal.SIGTERM
    running.was_killed = True  # its collector was
    running.end()


def test_without_grace(project: Project) -> None:
    """The text comes nevertheless: the collector is a process of its own."""
    project.write(test_a=HANG)
    running = project.start(*QUICK, "--gencore-grace=0", "--junitxml=j.xml")

    cancel(project, running, signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert "gencore: cancelled by SIGTERM" in ended.err
    project.wait_for_archives()
    (*_, hang) = read_junit(project.folder / "j.xml")
    assert hang.name == "test_hang"


@needs("root")
def test_first_process_of_a_pid_namespace(project: Project) -> None:
    """There SIGTERM has no effect, as in many a container: all the more the text must come."""
    project.write(test_a=HANG)
    running = project.start(*QUICK, "--junitxml=j.xml", prefix=("unshare", "--pid", "--fork", "--mount-proc"))
    wait_until((project.folder / "here").exists, "the test runs")
    (first,) = psutil.Process(running.process.pid).children()

    first.terminate()
    (archive,) = project.wait_for_archives()
    first.kill()
    running.was_killed = True
    ended = running.end()

    assert "cancelled by SIGTERM (sent by a process outside of this PID namespace, uid 0)" in ended.err
    assert read_manifest(archive)["trigger"]["sender"] == {"pid": 0, "uid": 0, "command": None}
    (*_, hang) = read_junit(project.folder / "j.xml")
    assert (hang.name, hang.results) == ("test_hang", ("error",))


def test_text_beside_an_archive_that_is_not_finished(project: Project) -> None:
    """Uploads leave out hidden folders, and the machine may go before the archive is finished."""
    project.write(test_a=HANG)
    running = project.start(*QUICK, "--gencore-max-size=1KB")
    wait_until((project.folder / "here").exists, "the test runs", timeout=30)
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert "gencore: no core archive: " in ended.err
    (text,) = (project.folder / ARTIFACTS).glob("*.txt")
    assert text.stat().st_mode & 0o777 == 0o600
    assert text.read_text().splitlines()[0] == "waits for queue.get() of an empty queue"
    text.unlink()
