"""Cancelled outside of a test: while it starts, collects, in wide fixtures, at the end."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from cancelled_runs import HANG, cancel
from gencore_archives import read_manifest
from kernel import wait_until
from projects import QUICK, SUPPORT

if TYPE_CHECKING:
    from projects import Project

BEGUN = "import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(1000)\n"
PLACES = {
    "module": ({"test_a": BEGUN}, "collection of test_a.py"),
    "conftest": ({"conftest": BEGUN, "test_a": HANG}, "import of conftest.py files"),
    "fixture": (
        {
            "conftest": """
                import pathlib, time, pytest
                @pytest.fixture(scope="session")
                def server():
                    pathlib.Path("here").touch()
                    time.sleep(1000)
            """,
            "test_a": "def test_served(server): pass",
        },
        "test_a.py::test_served, setup, session fixture 'server' of conftest.py:3",
    ),
    "session start": (
        {
            "conftest": """
                import os, pathlib, time
                def pytest_sessionstart():
                    if "PYTEST_XDIST_WORKER" not in os.environ:
                        pathlib.Path("here").touch()
                        time.sleep(1000)
            """,
            "test_a": "def test_one(): pass",
        },
        "session start",
    ),
    "session end": (
        {
            "conftest": """
                import pathlib, time
                def pytest_sessionfinish():
                    pathlib.Path("here").touch()
                    time.sleep(1000)
            """,
            "test_a": "def test_one(): pass",
        },
        "session end",
    ),
}


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_places(project: Project, where: str, number: signal.Signals) -> None:
    sources, place = PLACES[where]
    project.write(**sources)
    usual = project.start()
    cancel(project, usual, number)
    usual_status = usual.end().status
    (project.folder / "here").unlink()
    running = project.start(*QUICK, "--gencore-interrupt-after=0")

    cancel(project, running, number)
    ended = running.end()

    assert ended.status == usual_status
    assert f"gencore: cancelled by {number.name}" in ended.err
    assert f": {place}, for " in ended.err
    (archive,) = project.find_archives()
    assert read_manifest(archive)["place"] in place


READY = """
    import pathlib
    def pytest_testnodeready(node):
        pathlib.Path(f"ready-{node.gateway.id}").touch()
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["module", "conftest", "fixture"])
def test_places_with_workers(project: Project, where: str) -> None:
    sources, place = PLACES[where]
    project.write(ready=READY, **sources)
    running = project.start(*QUICK, "-n2", "-p", "ready", environment={"PYTHONPATH": f".:{SUPPORT}"})
    ready = [] if where == "conftest" else ["ready-gw0", "ready-gw1"]  # it hangs in the controller
    for name in ["here", *ready]:
        wait_until((project.folder / name).exists, f"there is {name}", timeout=30)

    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert "gencore: cancelled by SIGTERM" in ended.err
    assert f": {place}, for " in ended.err
    assert any(read_manifest(archive)["place"] in place for archive in project.find_archives())
