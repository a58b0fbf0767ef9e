"""Runs that are interrupted: with an archive of what has run for a while, and none of what has not."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from cancelled_runs import GIL_HELD, HANG, cancel
from gencore_archives import read_manifest
from junit_file import read_junit
from projects import QUICK

if TYPE_CHECKING:
    from projects import Project


@pytest.mark.field
def test_interrupted(project: Project) -> None:
    project.write(test_a=HANG)
    running = project.start(*QUICK, "--junitxml=j.xml", "--gencore-interrupt-after=0")

    cancel(project, running, signal.SIGINT)
    ended = running.end()

    assert ended.status == 2
    assert "KeyboardInterrupt" in ended.out
    assert "2 passed" in ended.out
    assert f"gencore: cancelled by SIGINT (sent by process {os.getpid()}, " in ended.err
    (archive,) = ended.announced()
    cases = read_junit(project.folder / "j.xml")
    assert [(case.name, case.results) for case in cases] == [
        ("test_one", ()),
        ("test_two", ()),
        ("test_hang", ("error",)),
    ]
    assert cases[-1].archives == (archive,)
    assert "cancelled by SIGINT" in ended.out, "the summary names the archive"


@pytest.mark.field
def test_interrupted_tasks(project: Project) -> None:
    """Before asyncio cancels them."""
    project.write(
        test_a="""
        import asyncio, pathlib
        async def pay():
            asyncio.get_running_loop().call_later(0.05, pathlib.Path("here").touch)
            await asyncio.Queue().get()
        def test_hang():
            asyncio.run(pay())
        """
    )
    usual = project.start()
    cancel(project, usual, signal.SIGINT)
    usual_status = usual.end().status
    (project.folder / "here").unlink()
    running = project.start(*QUICK, "--gencore-interrupt-after=0")

    cancel(project, running, signal.SIGINT)
    ended = running.end()

    assert ended.status == usual_status == 2
    assert "gencore: asyncio: " in ended.err
    assert "waits for queue.get() of an empty queue" in ended.err
    assert ended.announced()


def test_interrupted_early(project: Project) -> None:
    """A developer who stops his own run is told where it was, and is left alone."""
    project.write(test_a=HANG)
    running = project.start(*QUICK, "--junitxml=j.xml")

    cancel(project, running, signal.SIGINT)
    ended = running.end()

    assert ended.status == 2
    assert "gencore: cancelled by SIGINT" in ended.err
    assert (
        "no core archive: what was interrupted had run for less than 10 s (gencore_interrupt_after)"
        in ended.err
    )
    assert "under way" not in ended.err
    assert not project.find_archives()
    assert "= gencore =" not in ended.out
    (*_, hang) = read_junit(project.folder / "j.xml")
    assert (hang.name, hang.results) == ("test_hang", ("error",))


LINGERS = """
    import os, pathlib, time
    def linger():
        if "PYTEST_XDIST_WORKER" in os.environ:
            return
        try:
            pathlib.Path("here").touch()
            time.sleep(1000)
        finally:
            while not pathlib.Path("told").exists():
                time.sleep(0.01)
"""
BEGINNINGS = {
    "import of conftest.py files": "linger()",
    "session start": "pytest_sessionstart = lambda: linger()",
}


@pytest.mark.slow(rows=2)
@pytest.mark.parametrize("place", BEGINNINGS)
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "workers"])
def test_interrupted_early_while_it_starts(project: Project, place: str, workers: list[str]) -> None:
    """Nothing is left, though the answer is there before the process ends: then it has no end of session."""
    project.write(conftest=f"{LINGERS}\n    {BEGINNINGS[place]}\n", test_a="def test_one(): pass")
    running = project.start(*QUICK, *workers)

    cancel(project, running, signal.SIGINT)
    told = running.wait_until_told("no core archive")
    (project.folder / "told").touch()
    ended = running.end()

    assert ended.status == (2 if "session" in place else -signal.SIGINT)
    assert f"{'controller of pytest-xdist' if workers and 'session' in place else place}, for " in told
    assert not (project.folder / "gencore-artifacts").exists()


def test_interrupt_that_python_does_not_see(project: Project) -> None:
    project.write(test_a=GIL_HELD)
    running = project.start(*QUICK, "--gencore-interrupt-after=0")

    cancel(project, running, signal.SIGINT)
    (archive,) = project.wait_for_archives()
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    running.was_killed = True  # nobody was there to tidy up
    assert project.only_archive() == archive, "it is not captured again"
    assert read_manifest(archive)["trigger"]["signal"] == "SIGINT"


def test_termination_after_an_early_interrupt(project: Project) -> None:
    """What was only told can still be captured."""
    project.write(test_a=GIL_HELD)
    running = project.start(*QUICK)

    cancel(project, running, signal.SIGINT)
    assert running.process.stderr is not None
    said = ""
    while "no core archive" not in said:
        said = running.process.stderr.readline()
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert read_manifest(project.only_archive())["trigger"]["signal"] == "SIGTERM"
