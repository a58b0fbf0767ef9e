"""Deadlines of pytest-timeout: each of its methods has its say, and one whole archive is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest, read_member
from junit_file import read_junit
from projects import QUICK

from pytest_gencore import read_archive

if TYPE_CHECKING:
    from pathlib import Path

    from projects import Project


SLEEPS = """
    import threading
    def test_before(): pass
    def test_sleep():
        threading.Event().wait()
    def test_after(): pass
"""
SLEEPS_WITHOUT_THE_ALARM = """
    import signal, threading
    def test_sleep():
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        threading.Event().wait()
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


@pytest.mark.slow
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


def test_alarm_that_another_thread_takes(project: Project) -> None:
    """Python has noted it, but the main thread sleeps on: it is interrupted until the test has ended."""
    project.write(test_a=SLEEPS_WITHOUT_THE_ALARM)

    ended = project.run(*QUICK, "--timeout=1.5", "--timeout-method=signal")

    assert ended.counts() == {"failed": 1}
    assert "from pytest-timeout" in ended.out
    check_whole(project.only_archive(), project.folder / "unpacked")


@pytest.mark.slow
def test_thread_method_in_a_worker(project: Project) -> None:
    project.write(test_a=SLEEPS)

    ended = project.run("-n1", *QUICK, *THREAD_METHOD, "--junitxml=j.xml")

    assert ended.counts() == {"failed": 1, "passed": 2}
    archive = project.only_archive()
    check_whole(archive, project.folder / "unpacked")
    cases = {case.name: case for case in read_junit(project.folder / "j.xml")}
    assert cases["test_sleep"].archives == cases["test_sleep"].attachments == (str(archive),)
    assert f"gencore: core archive: {project.shown(archive)}" in ended.out
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


LATE = """
    import pytest_gencore.plugin.deadlines as deadlines
    deadlines.LEAD_SECONDS = 59
    deadlines.min = lambda lead, half: lead  # else the lead is at most half of the timeout
"""


@pytest.mark.slow(rows=1)
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


@pytest.mark.slow
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
