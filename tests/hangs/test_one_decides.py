"""No deadline passes while a crash or a failure is dealt with; what comes after a failure adds to it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest
from junit_file import read_junit
from projects import EXITS, QUICK

if TYPE_CHECKING:
    from projects import Project

pytestmark = pytest.mark.field

LARGE = """
    import ctypes, os
    held = os.urandom(150 << 20)  # its archive takes longer than the deadline
    def test_crash():
        getattr(ctypes.CDLL(None), "raise")(11)  # without the GIL
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(
    "deadline",
    [
        ("--gencore-timeout=0.7",),
        ("--gencore-timeout=0.7", *EXITS),
        ("--timeout=0.7", "--timeout-method=signal"),
        ("--timeout=0.7", "--timeout-method=thread"),
    ],
    ids=["own", "own exits", "signal", "thread"],
)
def test_no_deadline_passes_during_a_crash(project: Project, deadline: tuple[str, ...]) -> None:
    project.write(test_a=LARGE)

    ended = project.run(*QUICK, *deadline, "--junitxml=j.xml")

    assert ended.status == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in ended.err
    assert "took longer" not in ended.out + ended.err
    assert read_manifest(project.only_archive())["trigger"]["kind"] == "crash"
    (case,) = read_junit(project.folder / "j.xml")
    assert case.archives == (str(project.only_archive()),)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
def test_no_deadline_passes_while_a_failure_is_reported(project: Project, workers: list[str]) -> None:
    project.write(
        conftest="""
        import threading, pytest
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(call):
            if call.excinfo is not None:
                threading.Event().wait(0.6)  # as long tracebacks of large values do
            return (yield)
        """,
        test_a="""
        def test_fails(): assert 1 == 2, "the real failure"
        """,
    )

    ended = project.run(*workers, *QUICK, "--gencore-timeout=0.5", *EXITS)

    assert ended.status == 1
    assert ended.counts() == {"failed": 1}
    assert "the real failure" in ended.out
    assert "took longer" not in ended.out + ended.err
    assert read_manifest(project.only_archive())["trigger"]["kind"] == "failure"


FAILS_THEN = """
    import ctypes, threading, pytest
    @pytest.fixture
    def later():
        yield
        {what}
    def test_before(): assert 0, "another failure"
    def test_fails(later): assert 1 == 2, "the real failure"
    def test_after(): pass
"""
HANGS = "threading.Event().wait()"


def test_hang_after_a_failure(project: Project) -> None:
    """It says more than the failure; and what pytest knew is told by the collector, in log and junit file."""
    project.write(test_a=FAILS_THEN.format(what=HANGS))

    ended = project.run(*QUICK, "--gencore-timeout=1", *EXITS, "--junitxml=j.xml")

    assert ended.status == 1
    archives = project.archives()
    assert sorted(archives) == [
        "test_a.py::test_before call",
        "test_a.py::test_fails call",
        "test_a.py::test_fails teardown",
    ]
    assert "took longer than 1 s (timeout of gencore)" in ended.err
    assert "  test_a.py::test_before (call): AssertionError: another failure" in ended.err
    assert "gencore: the failure in the call of test_a.py::test_fails:" in ended.err
    assert "E   AssertionError: the real failure" in ended.err
    assert ended.announced() == [str(archives["test_a.py::test_fails teardown"])]
    before, failed, hung = read_junit(project.folder / "j.xml")
    assert [(case.name, case.results) for case in (before, failed, hung)] == [
        ("test_before", ("failure",)),
        ("test_fails", ("failure",)),
        ("test_fails", ("error",)),
    ]


@pytest.mark.slow
def test_hang_after_a_failure_in_a_worker(project: Project) -> None:
    project.write(test_a=FAILS_THEN.format(what=HANGS))

    ended = project.run("-n1", *QUICK, "--gencore-timeout=1", *EXITS)

    assert ended.status == 1
    archives = project.archives()
    assert len(archives) == 3
    assert "E   AssertionError: the real failure" in ended.out
    assert "took longer than 1 s (timeout of gencore)" in ended.out
    assert f"gencore: core archive: {project.shown(archives['test_a.py::test_fails teardown'])}" in ended.out
    assert "not by a signal" not in ended.out


@pytest.mark.slow
def test_hang_after_a_failure_goes_on(project: Project) -> None:
    """Nobody ends it: the collector tells, and then somebody else kills the run."""
    project.write(test_a=FAILS_THEN.format(what=HANGS))

    running = project.start(*QUICK, "--gencore-timeout=1")
    archives = project.wait_for_archives(3)
    told = running.kill_when_told(f"gencore: core archive: {project.shown(archives[-1])}").err

    assert "took longer than 1 s (timeout of gencore)" in told
    assert "E   AssertionError: the real failure" in told


def test_crash_after_a_failure(project: Project) -> None:
    project.write(test_a=FAILS_THEN.format(what="ctypes.string_at(8)"))

    ended = project.run(*QUICK, "--junitxml=j.xml")

    assert ended.status == -signal.SIGSEGV
    assert "SIGSEGV" in ended.err
    assert "E   AssertionError: the real failure" in ended.err
    assert len(project.archives()) == 3
    cases = read_junit(project.folder / "j.xml")
    assert [case.results for case in cases] == [("failure",), ("failure",), ("error",)]
