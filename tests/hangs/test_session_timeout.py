"""The deadline of a run that makes no progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest
from projects import EXITS, QUICK, Project

if TYPE_CHECKING:
    from pathlib import Path

WORKERS = pytest.mark.parametrize("workers", [[], ["-n2", "--max-worker-restart=0"]], ids=["local", "xdist"])
NO_PROGRESS = "no progress for 1.5 s (session timeout of gencore): "


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.slow
@WORKERS
@pytest.mark.parametrize("exits", [True, False], ids=["exits", "goes_on"])
def test_import_that_hangs(project: Project, workers: list[str], exits: bool) -> None:
    wait = "wait()" if exits else "wait(5)"
    project.write(test_a=f"import threading\nthreading.Event().{wait}\ndef test_x(): pass\n")

    ended = project.run(*QUICK, *workers, "--gencore-session-timeout=1.5s", *(EXITS if exits else ()))

    manifest = read_manifest(project.only_archive())
    assert (manifest["nodeid"], manifest["place"]) == (None, "collection of test_a.py")
    assert manifest["trigger"]["deadline_source"] == "gencore-session"
    assert f"{NO_PROGRESS}collection of test_a.py, " in ended.out + ended.err
    assert 'test_a.py", line 2, in <module>' in ended.out + ended.err
    if exits:
        assert ended.status != 0
        assert "gencore: the run made no progress for too long, the process ends" in ended.err
    else:
        assert ended.counts() == {"passed": 1}


@pytest.mark.slow
@pytest.mark.parametrize("on_fail", [True, False], ids=["on_fail", "alone"])
def test_conftest_that_hangs(project: Project, on_fail: bool) -> None:
    """Before pytest is configured."""
    project.write(conftest="import threading\nthreading.Event().wait()\n", test_a="def test_x(): pass\n")
    options = QUICK if on_fail else ("--gencore-method=memory",)

    ended = project.run(*options, "--gencore-session-timeout=1.5s", *EXITS)

    assert ended.status == 1
    assert f"{NO_PROGRESS}import of conftest.py files, " in ended.err
    assert 'conftest.py", line 2, in <module>' in ended.err
    assert ended.announced() == [str(project.only_archive())]


@pytest.mark.slow
def test_hook_that_hangs_after_the_collection(project: Project) -> None:
    """Nothing is collected then: no module is named."""
    project.write(
        conftest="import threading\ndef pytest_collection_modifyitems(): threading.Event().wait()\n",
        test_a="def test_x(): pass\n",
    )

    ended = project.run(*QUICK, "--gencore-session-timeout=1.5s", *EXITS)

    assert ended.status == 1
    assert read_manifest(project.only_archive())["place"] == "collection"


@pytest.mark.slow(rows=1)
@WORKERS
def test_session_fixture_that_hangs(project: Project, workers: list[str]) -> None:
    """In the name of the test that waits for it."""
    project.write(
        test_a="""
        import pytest, threading
        @pytest.fixture(scope="session")
        def server():
            threading.Event().wait()
        def test_x(server): pass
        """
    )

    ended = project.run(*QUICK, *workers, "--gencore-session-timeout=1.5s", *EXITS)

    manifest = read_manifest(project.only_archive())
    assert (manifest["nodeid"], manifest["phase"]) == ("test_a.py::test_x", "setup")
    assert f"{NO_PROGRESS}test_a.py::test_x, setup, " in ended.out + ended.err
    assert ", in server" in ended.out + ended.err
    assert ended.status == 1


@pytest.mark.slow
@WORKERS
def test_progress(project: Project, workers: list[str]) -> None:
    """Longer than the limit in all, with a worker that has nothing to do; and each test has a bit of time."""
    project.write(
        test_a="""
        import pytest, threading
        @pytest.mark.parametrize("number", range(6))
        def test_x(number):
            threading.Event().wait(0.4)
        """,
        test_b="def test_y(): pass\n",
    )

    ended = project.run(*QUICK, *workers, "--dist=loadfile", "--gencore-session-timeout=1.5s", *EXITS)

    assert ended.counts() == {"passed": 7}
    assert project.find_archives() == []


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("exits", [True, False], ids=["exits", "goes_on"])
def test_session_end_that_hangs(project: Project, exits: bool) -> None:
    wait = "wait()" if exits else "wait(4)"
    project.write(
        conftest=f"import threading\ndef pytest_sessionfinish(): threading.Event().{wait}\n",
        test_a="def test_x(): pass\n",
    )

    ended = project.run(*QUICK, "--gencore-session-timeout=1.5s", *(EXITS if exits else ()))

    assert ended.status == (1 if exits else 0)
    assert read_manifest(project.only_archive())["place"] == "session end"
    assert f"{NO_PROGRESS}session end, " in ended.out + ended.err
    assert 'conftest.py", line 2, in pytest_sessionfinish' in ended.out + ended.err


@pytest.mark.slow
@WORKERS
def test_waiting_for_archives(project: Project, workers: list[str]) -> None:
    """However long a collector takes: here it is stopped for longer than the limit."""
    project.write(
        conftest="""
        import contextlib, os, pathlib, psutil, threading
        def pytest_runtest_logfinish():
            if "PYTEST_XDIST_WORKER" in os.environ:
                return
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error, OSError):
                    archive = pathlib.Path(f"/proc/{process.pid}/fd/4").readlink()
                    if archive.is_relative_to(pathlib.Path.cwd() / "gencore-artifacts"):
                        process.suspend()
                        threading.Timer(5, process.resume).start()
        """,
        test_a="def test_x(): assert False\n",
    )

    ended = project.run(*QUICK, *workers, "--gencore-session-timeout=1.5s", *EXITS)

    assert ended.counts() == {"failed": 1}
    assert read_manifest(project.only_archive())["trigger"]["kind"] == "failure"
