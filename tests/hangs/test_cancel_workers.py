"""Cancelled runs of pytest-xdist: the controller, its workers, or all."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil
import pytest
from cancelled_runs import HANG, WAITS, cancel
from gencore_archives import read_manifest
from junit_file import read_junit
from kernel import wait_until
from projects import QUICK

if TYPE_CHECKING:
    from projects import Project, Running

TWO_HANGS = f"""
    {WAITS}
    def hang():
        say_when_it_waits("here-" + os.environ["PYTEST_XDIST_WORKER"])
        queue.Queue().get()
    def test_one(): pass
    def test_hang(): hang()
    def test_two(): pass
    def test_other(): hang()
"""


TOLD = """
    import os, pathlib
    def pytest_runtest_logstart(nodeid):
        if "PYTEST_XDIST_WORKER" not in os.environ:
            pathlib.Path(f"told-{nodeid.rpartition('::')[2]}").touch()
"""


def start_workers(project: Project, *arguments: str) -> Running:
    """Start a run both of whose workers hang, and wait until they do."""
    project.write(test_a=TWO_HANGS, conftest=TOLD)
    running = project.start(*QUICK, "-n2", *arguments)
    for name in ("here-gw0", "here-gw1", "told-test_hang", "told-test_other"):
        wait_until((project.folder / name).exists, "the tests run", timeout=20)
    return running


@pytest.mark.slow
@pytest.mark.parametrize("is_group", [False, True], ids=["controller", "all processes"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminated_workers(project: Project, number: signal.Signals, *, is_group: bool) -> None:
    running = start_workers(project, "--junitxml=j.xml")

    if is_group:
        os.killpg(running.process.pid, number)
    else:
        running.process.send_signal(number)
    ended = running.end()

    assert ended.status == -number
    assert f"gencore: cancelled by {number.name} (sent by process {os.getpid()}, " in ended.err
    for worker, test in (("gw0", "test_hang"), ("gw1", "test_other")):
        assert ended.err.count(f": test_a.py::{test}, call, for ") == 1
        assert f", worker {worker}, process " in ended.err
    assert ended.err.count("gencore: waits for queue.get() of an empty queue") == 2
    assert "no answer" not in ended.err
    assert sorted(ended.announced()) == [str(path) for path in project.find_archives()]
    cases = {case.name: case for case in read_junit(project.folder / "j.xml")}
    assert {name: case.results for name, case in cases.items()} == {
        "test_one": (),
        "test_two": (),
        "test_hang": ("error",),
        "test_other": ("error",),
    }
    assert sorted(cases["test_hang"].archives + cases["test_other"].archives) == sorted(ended.announced())


@pytest.mark.slow
def test_interrupted_workers(project: Project) -> None:
    running = start_workers(project, "--junitxml=j.xml", "--gencore-interrupt-after=0")

    running.process.send_signal(signal.SIGINT)
    ended = running.end()

    assert ended.status == 2
    assert "2 passed" in ended.out
    assert "gencore: cancelled by SIGINT to the controller: test_a.py::test_hang, call, for " in ended.err
    assert "2 captured" in ended.out
    cases = {case.name: case for case in read_junit(project.folder / "j.xml")}
    assert cases.keys() == {"test_one", "test_two", "test_hang", "test_other"}
    named = cases["test_hang"].archives + cases["test_other"].archives
    assert sorted(named) == [str(path) for path in project.find_archives()]
    assert len(named) == 2


@pytest.mark.slow
def test_workers_interrupted_early(project: Project) -> None:
    running = start_workers(project)

    running.process.send_signal(signal.SIGINT)
    ended = running.end()

    assert ended.status == 2
    assert ended.err.count("gencore: waits for queue.get() of an empty queue") == 2
    assert not project.find_archives()
    assert "= gencore =" not in ended.out


def test_controller_that_hangs(project: Project) -> None:
    """Its workers have nothing to do."""
    project.write(
        conftest="""
        import os, pathlib, time
        def pytest_runtest_logreport(report):
            if "PYTEST_XDIST_WORKER" not in os.environ and report.when == "teardown":
                pathlib.Path("here").touch()
                time.sleep(1000)
        """,
        test_a="def test_one(): pass",
    )
    running = project.start(*QUICK, "-n2")

    cancel(project, running, signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert "in pytest_runtest_logreport\n" in ended.err
    assert ": controller of pytest-xdist, for " in ended.err
    assert ended.announced() == [str(project.only_archive())]
    manifest = read_manifest(project.only_archive())
    assert (manifest["place"], manifest["worker_id"]) == ("controller of pytest-xdist", None)


def test_worker_that_is_terminated(project: Project) -> None:
    """Alone, as by somebody who has found it in a list of processes: the report of its end says so."""
    project.write(test_a=HANG)
    running = project.start(*QUICK, "-n1", "--max-worker-restart=0")
    wait_until((project.folder / "here").exists, "the test runs")

    psutil.Process(running.process.pid).children()[0].terminate()
    ended = running.end()

    assert ended.status == 1
    assert f"cancelled by SIGTERM (sent by process {os.getpid()}, " in ended.out
    assert ended.counts()["failed"] == 1
