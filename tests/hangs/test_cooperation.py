"""Others that watch, measure and nest tests: they work as without us, and we with them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from projects import QUICK

if TYPE_CHECKING:
    from projects import Project

SEGV = -signal.SIGSEGV
PLAIN = ("--gencore-filter=0x11", "--gencore-method=memory")


def test_coverage(project: Project) -> None:
    """With its trace function, and its data written, also after a deadline."""
    pytest.importorskip("pytest_cov")
    project.write(
        test_a="""
        import pathlib, threading
        def test_a():
            while not list(pathlib.Path("gencore-artifacts").glob("*.gz")):
                threading.Event().wait(0.05)
        """
    )

    ended = project.run(*QUICK, "--gencore-timeout=0.5", "--cov=.")

    assert ended.counts() == {"passed": 1}
    assert "100%" in ended.out
    assert list(project.archives()) == ["test_a.py::test_a call"]


@pytest.mark.slow
@pytest.mark.parametrize("armed", ["inner too", "outer only"])
def test_session_inside_a_test(project: Project, armed: str) -> None:
    """``pytester.inline_run``: the outermost session owns the handlers, and still does afterwards."""
    inner = [*QUICK, "--gencore-timeout=60"] if armed == "inner too" else []
    project.write(
        conftest="pytest_plugins = ['pytester']",
        test_a=f"""
        import ctypes
        def test_1(pytester):
            pytester.makepyfile("def test_inner(): assert 0")
            pytester.inline_run(*{inner!r}).assertoutcome(failed=1)
        def test_2(pytester):
            pytester.makepyfile("def test_inner(): pass")
            pytester.inline_run(*{inner!r}).assertoutcome(passed=1)
            ctypes.string_at(8)
        """,
    )

    ended = project.run(*QUICK, "--basetemp=temporary")

    assert ended.status == SEGV
    assert list(project.archives()) == ["test_a.py::test_2 call"]
    assert ended.announced() == [str(project.only_archive())]


def test_marker_only(project: Project) -> None:
    """Handlers are there while a marked test and its fixtures run, and at no other time."""
    project.write(
        test_a="""
        import ctypes, pytest
        FATAL = (4, 6, 7, 8, 11)
        libc = ctypes.CDLL(None)
        def actions():
            found = []
            for number in FATAL:
                action = (ctypes.c_uint64 * 20)()
                assert libc.sigaction(number, None, action) == 0
                found.append(action[0])
            return found
        seen = {}
        @pytest.fixture(scope="module", autouse=True)
        def module():
            yield
            seen["module"] = actions()
            unwatched = seen["before"]
            assert all(address not in seen["marked"] for address in unwatched), "ours are others"
            assert seen["after"] == unwatched
            assert seen["setup"] == seen["marked"] == seen["teardown"]
        @pytest.fixture
        def fixture():
            seen["setup"] = actions()
            yield
            seen["teardown"] = actions()
        def test_before(): seen["before"] = actions()
        @pytest.mark.gencore
        def test_marked(fixture): seen["marked"] = actions()
        def test_after(): seen["after"] = actions()
        @pytest.mark.gencore(enabled=False)
        def test_disabled(): assert actions() == seen["before"]
        """
    )

    ended = project.run(*PLAIN)

    assert ended.counts() == {"passed": 4}
    assert not project.find_archives()


@pytest.mark.parametrize("marked", [True, False])
def test_crash_with_marker_only(project: Project, *, marked: bool) -> None:
    project.write(
        test_a=f"""
        import ctypes, pytest
        @pytest.mark.gencore
        def test_marked():
            if {marked}: ctypes.string_at(8)
        def test_unmarked(): ctypes.string_at(8)
        """
    )

    ended = project.run(*PLAIN)

    assert ended.status == SEGV
    assert ended.err.count("Fatal Python error: Segmentation fault") == 1
    assert list(project.archives()) == (["test_a.py::test_marked call"] if marked else [])
