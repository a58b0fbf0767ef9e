"""The session timeout in the controller of pytest-xdist: workers that are silent, and hooks that hang."""

from __future__ import annotations

import os
import signal
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest
from kernel import wait_until
from projects import EXITS, QUICK

from pytest_gencore.machine.process import state_of
from pytest_gencore.plugin.sessiondeadline import find_controller_seconds

if TYPE_CHECKING:
    from projects import Project

TIMEOUT = "--gencore-session-timeout=1.5s"
NO_PROGRESS = (
    "gencore: no progress for 3.5 s (session timeout of gencore): controller of pytest-xdist, process "
)
STOPS = """
    import os, pathlib, signal
    def test_ok(): pass
    def test_stops():
        pathlib.Path("pid").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    """
HANGS_IN_CONTROLLER = """\
import os, threading
def hang():
    if "PYTEST_XDIST_WORKER" not in os.environ:
        threading.Event().wait()
"""


@pytest.mark.parametrize(("seconds", "later"), [(None, None), (1, 3), (60, 66), (600, 610)])
def test_the_controller_is_later(seconds: float | None, later: float | None) -> None:
    assert find_controller_seconds(seconds) == later


@pytest.mark.slow
@pytest.mark.parametrize("on_fail", [True, False], ids=["on_fail", "alone"])
def test_stopped_worker(project: Project, on_fail: bool) -> None:
    """It cannot speak for itself, and would outlive the run."""
    project.write(test_a=STOPS)
    options = QUICK if on_fail else ("--gencore-method=memory",)

    ended = project.run(*options, "-n2", "--junit-xml=junit.xml", TIMEOUT, *EXITS, timeout=60)

    pid = (project.folder / "pid").read_text()
    assert ended.status == 1
    lines = ended.err.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(NO_PROGRESS))
    name, _, rest = lines[first + 1].removeprefix("gencore: worker ").partition(", process ")
    assert name in ("gw0", "gw1")
    assert rest.startswith(f"{pid}: no message for 3.")
    assert "; it runs test_a.py::test_stops, begun 3." in rest
    assert rest.endswith(" ago; its process is stopped, as by SIGSTOP")
    assert "gencore: the run made no progress for too long, the process ends" in ended.err
    archive = project.only_archive()
    assert ended.announced() == [str(archive)]
    manifest = read_manifest(archive)
    assert (manifest["nodeid"], manifest["place"]) == (None, "controller of pytest-xdist")
    wait_until(lambda: state_of(int(pid)) in ("", "Z"), "the worker has ended")
    cases = {case.get("name"): case for case in ET.parse(project.folder / "junit.xml").iter("testcase")}
    error = cases["test_stops"].find("error")
    assert error is not None
    assert lines[first + 1].removeprefix("gencore: ") in (error.text or "")


@pytest.mark.slow
def test_run_that_goes_on(project: Project) -> None:
    """The controller is captured, tells, and waits on."""
    project.write(test_a=STOPS)

    running = project.start(*QUICK, "-n2", TIMEOUT)
    (archive,) = project.wait_for_archives()
    os.kill(int((project.folder / "pid").read_text()), signal.SIGCONT)
    ended = running.end()

    assert ended.status == 0
    assert "2 passed" in ended.out
    assert read_manifest(archive)["place"] == "controller of pytest-xdist"
    assert "; it runs test_a.py::test_stops, begun " in ended.out + ended.err


@pytest.mark.slow
def test_worker_that_tells(project: Project) -> None:
    """One archive, of the worker: the controller knows nothing that is not in it."""
    project.write(test_a="import threading\ndef test_slow(): threading.Event().wait(6)\n")

    ended = project.run(*QUICK, "-n1", TIMEOUT)

    assert "1 passed" in ended.out
    assert read_manifest(project.only_archive())["nodeid"] == "test_a.py::test_slow"
    assert "controller of pytest-xdist" not in ended.out + ended.err


@pytest.mark.slow
def test_worker_that_cannot_be_reached(project: Project) -> None:
    """It blocks the signal of its deadline and holds the GIL: neither we nor execnet get through to it."""
    project.write(
        test_a="""
        import ctypes, pathlib, os, signal
        def test_deaf():
            pathlib.Path("pid").write_text(str(os.getpid()))
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            ctypes.PyDLL(None).sleep(600)
        """
    )

    ended = project.run(*QUICK, "-n1", TIMEOUT, *EXITS)

    assert ended.status == 1
    assert "; it runs test_a.py::test_deaf, begun 3." in ended.err
    assert "gencore: workers that do not end within 20 s, or are stopped, are killed" in ended.err
    pid = int((project.folder / "pid").read_text())
    wait_until(lambda: state_of(pid) in ("", "Z"), "the worker has ended")


HOOKS = {
    "logreport": ("def pytest_runtest_logreport(): hang()", "controller of pytest-xdist"),
    "session_end": ("def pytest_sessionfinish(): hang()", "session end"),
    "configure_node": ("def pytest_configure_node(): hang()", "controller of pytest-xdist"),
    "after_session": (
        "def pytest_sessionfinish(): threading.Thread(target=hang, name='listener').start()",
        "after the session",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HOOKS)
def test_controller_that_hangs(project: Project, case: str) -> None:
    hook, place = HOOKS[case]
    project.write(conftest=HANGS_IN_CONTROLLER + hook, test_a="def test_x(): pass\ndef test_y(): pass\n")

    ended = project.run(*QUICK, "-n1", TIMEOUT, *EXITS)

    assert ended.status == 1
    assert f"gencore: no progress for 3.5 s (session timeout of gencore): {place}, process " in ended.err
    assert 'File "conftest.py", line 4, in hang' in ended.err
    assert read_manifest(project.only_archive())["place"] == place
    assert ("gencore: worker gw0, process " in ended.err) == (case in ("logreport", "configure_node"))


@pytest.mark.slow
def test_worker_that_hangs_at_its_end(project: Project) -> None:
    """It tells, although it runs no test."""
    project.write(
        conftest="""
        import threading
        def pytest_sessionfinish(session):
            if hasattr(session.config, "workerinput"):
                threading.Event().wait()
        """,
        test_a="def test_x(): pass\n",
    )

    ended = project.run(*QUICK, "-n1", "--max-worker-restart=0", TIMEOUT, *EXITS)

    manifest = read_manifest(project.only_archive())
    assert (manifest["place"], manifest["worker_id"]) == ("session end", "gw0")
    assert 'File "conftest.py", line 5, in pytest_sessionfinish' in ended.out


BUSY = {
    "tests": {
        "test_a": """
        import threading
        def make():
            def test():
                threading.Event().wait(0.4)
            return test
        globals().update({f"test_{number}": make() for number in range(12)})
        """,
        "test_b": "def test_y(): pass\n",
    },
    "collection": {
        f"test_{number}": "import threading\nthreading.Event().wait(0.6)\ndef test_x(): pass\n"
        for number in range(8)
    },
    "fixtures": {
        "test_a": """
        import pytest, threading
        def make():
            @pytest.fixture(scope="module")
            def fixture():
                threading.Event().wait(0.6)
                yield
                threading.Event().wait(0.6)
            return fixture
        a, b, c, d, e, f, g, h = (make() for _ in range(8))
        def test_x(a, b, c, d, e, f, g, h): pass
        """
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BUSY)
def test_progress(project: Project, case: str) -> None:
    """Longer than the limit of the controller in all: some of it is told by no message of pytest-xdist."""
    project.write(**BUSY[case])

    ended = project.run(*QUICK, "-n2", "--dist=loadfile", TIMEOUT, *EXITS)

    assert ended.status == 0
    assert project.find_archives() == []
