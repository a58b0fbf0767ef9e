"""Runs that ended without a word: what the next run and ``gencore list`` say of them."""

from __future__ import annotations

import re

import pytest
from kernel import wait_until
from projects import ARTIFACTS, QUICK, Project

DIES = """
    import os, signal
    def test_one(): pass
    def test_killed(): os.kill(os.getpid(), signal.SIGKILL)
"""
SAYS = (
    r"an earlier run \(process \d+\) ended without a word; "
    r"the last test that began: test_a.py::test_killed, at \d{4}-\S+ \S+ UTC"
)


@pytest.mark.slow
def test_next_run(project: Project) -> None:
    project.write(test_a=DIES)
    assert project.run(*QUICK).status == -9
    listed = project.gencore("list", ARTIFACTS)
    assert re.search(SAYS, listed.err)

    first = project.run(*QUICK, "-k", "one")
    second = project.run(*QUICK, "-k", "one")

    assert re.search(f"^gencore: {SAYS}$", first.out, re.MULTILINE)
    assert "earlier run" not in second.out
    assert first.counts() == second.counts() == {"passed": 1, "deselected": 1}


def test_killed_while_an_archive_is_written(project: Project) -> None:
    """Its collector tidies up behind the run, but not what it does not say itself."""
    project.write(test_a="def test_fails(): assert 0\n" + DIES.replace("    ", "", 1).replace("\n    ", "\n"))
    assert project.run(*QUICK).status == -9
    project.wait_for_archives()

    assert re.search(SAYS, project.run(*QUICK, "-k", "one").out)


@pytest.mark.slow
def test_name_that_is_cut(project: Project) -> None:
    """And not inside of an escape, which would be no JSON."""
    project.write(
        test_a="""
        import os, pytest
        NAMES = [number * "x" + 8000 * chr(0xe9) for number in range(2)]
        @pytest.mark.parametrize("name", NAMES, ids=NAMES)
        def test_it(name):
            if name == NAMES[int(os.environ["AT"])]:
                os.kill(os.getpid(), 9)
        """
    )
    for at in range(2):
        assert project.run(*QUICK, environment={"AT": str(at)}).status == -9
        said = project.gencore("list", ARTIFACTS).err
        name = rf"test_a\.py::test_it\[{at * 'x'}(\\xe9){{1000,}}\S{{0,3}}"
        assert re.search(rf"the last test that began: {name}\.\.\., at ", said)
        project.run(*QUICK, "-k", "nothing", environment={"AT": ""})  # told once


def test_list_that_is_taken_away(project: Project) -> None:
    """What was mapped is not there any more: the next test that begins must not die of that."""
    project.write(
        test_a="""
        import os, pathlib
        def test_truncate():
            (path,) = pathlib.Path("gencore-artifacts").glob(".gencore-*/started-*")
            os.truncate(path, 0)
        def test_one(): pass
        def test_two(): pass
        """
    )
    assert project.run(*QUICK).counts() == {"passed": 3}


@pytest.mark.slow
def test_run_that_lives(project: Project) -> None:
    """Another run in the same directory says nothing of it, and leaves it alone."""
    project.write(
        test_a="""
        import os, pathlib, subprocess, sys
        def test_it():
            (folder,) = pathlib.Path("gencore-artifacts").glob(".gencore-*")
            before = sorted(os.listdir(folder))
            inner = [sys.executable, "-m", "pytest", "--gencore-on-fail", "other.py"]
            assert b"ended without" not in subprocess.run(inner, capture_output=True, check=True).stdout
            assert sorted(os.listdir(folder)) == before
        """,
        other="def test_other(): pass\n",
    )
    assert project.run(*QUICK).counts() == {"passed": 1}


@pytest.mark.slow
def test_whole_run_with_workers(project: Project) -> None:
    project.write(
        test_a="""
        import pathlib, os, time
        def test_one(): pass
        def test_hang():
            pathlib.Path("here").touch()
            while True:
                time.sleep(1)
        """
    )
    running = project.start(*QUICK, "-n1")
    wait_until((project.folder / "here").exists, "the test runs", timeout=30)
    running.kill()

    said = project.run(*QUICK, "-k", "one")
    assert "ended without a word; worker gw0, the last test that began: test_a.py::test_hang, at " in said.out


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("has_directory", [False, True])
def test_nothing_is_left(project: Project, *, has_directory: bool) -> None:
    project.write(test_a="def test_one(): pass\n")
    directory = project.folder / ARTIFACTS
    if has_directory:
        directory.mkdir()

    for workers in ((), ("-n2",)):
        assert project.run(*QUICK, *workers).counts() == {"passed": 1}
        assert directory.exists() == has_directory
