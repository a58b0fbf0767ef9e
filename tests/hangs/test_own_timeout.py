"""Our own timeout, of option and marker: what it counts, and whether the process ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest
from junit_file import read_junit
from projects import EXITS, QUICK

if TYPE_CHECKING:
    from projects import Project


def test_own_timeout_alone_lets_the_test_pass(project: Project) -> None:
    project.write(
        test_a="""
        import threading, pathlib
        def test_slow():
            while not list(pathlib.Path("gencore-artifacts").glob("*.gz")):
                threading.Event().wait(0.05)
        def test_after(): pass
        """
    )

    ended = project.run(*QUICK, "--gencore-timeout=0.5", "--junitxml=j.xml")

    assert ended.status == 0
    assert ended.counts() == {"passed": 2}
    archive = project.only_archive()
    slow, after = read_junit(project.folder / "j.xml")
    assert slow.archives == slow.attachments == (str(archive),)
    assert not after.archives
    assert "1 captured" in ended.out
    assert ", in test_slow\n" in ended.out, "no report shows the stacks: the test has passed"
    assert "took longer than 0.5 s (timeout of gencore)" in ended.out


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("armed", ["option", "marker"])
def test_timeout_of_a_marker(project: Project, armed: str) -> None:
    project.write(
        test_a="""
        import threading, pathlib, pytest
        @pytest.mark.gencore(timeout=0.5, method="memory")
        def test_slow():
            while not list(pathlib.Path("gencore-artifacts").glob("*.gz")):
                threading.Event().wait(0.05)
        """
    )

    ended = project.run(*(QUICK if armed == "option" else ["--gencore-filter=0x11"]))

    assert ended.counts() == {"passed": 1}
    assert list(project.archives()) == ["test_a.py::test_slow call"]


@pytest.mark.slow
def test_only_the_time_of_the_test_counts(project: Project) -> None:
    """A fixture of a wider scope has as much time for itself, when it is set up and when it is torn down."""
    project.write(
        test_a="""
        import threading, pytest
        WAIT = 1.75
        @pytest.fixture(scope="session")
        def slow_session():
            threading.Event().wait(0.6)
            yield
            threading.Event().wait(0.6)
        @pytest.fixture(scope="module")
        def slow_module(slow_session):
            threading.Event().wait(0.6)
            yield
            threading.Event().wait(0.6)
        @pytest.fixture
        def slow_function():
            threading.Event().wait(WAIT)
        def test_module(slow_module): threading.Event().wait(0.6)
        """,
        test_b="""
        from test_a import slow_function
        def test_function(slow_function): pass
        """,
        test_c="""
        import threading, pytest
        from test_a import WAIT
        @pytest.fixture
        def slow_end():
            yield
            threading.Event().wait(WAIT)
        def test_end(slow_end): pass
        """,
    )

    ended = project.run(*QUICK, "--gencore-timeout=1")

    assert ended.counts() == {"passed": 3}
    assert sorted(project.archives()) == ["test_b.py::test_function setup", "test_c.py::test_end teardown"]


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_fixtures_of_a_wider_scope(project: Project, workers: list[str]) -> None:
    """They are named beside the test that waits for them."""
    project.write(
        conftest="""
        import threading, pytest
        @pytest.fixture(scope="session")
        def server():
            threading.Event().wait(1.75)
        """,
        test_a="""
        import threading, pytest
        @pytest.fixture(scope="class")
        def client():
            yield
            threading.Event().wait(1.75)
        def test_server(server): pass
        class TestClient:
            def test_client(self, client): pass
        """,
    )

    ended = project.run(*QUICK, *workers, "--gencore-timeout=1")

    assert ended.counts() == {"passed": 2}
    archives = project.archives()
    places = {name: read_manifest(archive)["place"] for name, archive in archives.items()}
    assert places == {
        "test_a.py::test_server setup": "session fixture 'server' of conftest.py:3",
        "test_a.py::TestClient::test_client teardown": "fixtures of a wider scope",
    }
    assert (
        "took longer than 1 s (timeout of gencore): test_a.py::test_server, setup, session fixture"
        in ended.out
    )


@pytest.mark.slow
def test_fixture_within_a_fixture(project: Project) -> None:
    """The outer one hangs, after the inner one was set up: it is the one that is named."""
    project.write(
        test_a="""
        import threading, pytest
        @pytest.fixture(scope="session")
        def before(): pass
        @pytest.fixture(scope="session")
        def inner(): pass
        @pytest.fixture(scope="session")
        def outer(before, request):
            request.getfixturevalue("inner")
            threading.Event().wait(1.75)
        def test_x(outer): pass
        """
    )

    ended = project.run(*QUICK, "--gencore-timeout=1")

    assert ended.counts() == {"passed": 1}
    assert read_manifest(project.only_archive())["place"] == "session fixture 'outer' of test_a.py:7"


def test_exit_on_timeout_without_a_capture(project: Project) -> None:
    """The process ends, also if there can be no archive: else the run would hang."""
    project.write(
        test_a="""
        import threading
        def test_slow(): threading.Event().wait()
        """
    )
    (project.folder / "file").touch()

    ended = project.run(*QUICK, "--gencore-timeout=0.5", *EXITS, "--gencore-dir=file")

    assert ended.status == 1
    assert "gencore: no core archive: cannot make or open the directory" in ended.err
