"""One line for each test that has taken a third of its time, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from projects import QUICK

if TYPE_CHECKING:
    from projects import Project

SLOW = """
    import itertools, sys, time
    import pytest
    NOTICE = "gencore: slow: "

    def wait_for_server(seconds):
        time.sleep(seconds)
    def test_quick():
        pass
    def test_slow():
        wait_for_server(1.5)
    def test_compiled():
        end = time.monotonic() + 1.5
        any(time.monotonic() > end for _ in itertools.repeat(1))
    @pytest.fixture(scope="module")
    def server():
        wait_for_server(1.5)
    def test_fixture(server):
        pass
    @pytest.mark.gencore(timeout=2)
    def test_short_deadline():
        wait_for_server(1)
"""


def notices_of(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if "gencore: slow" in line]
    return sorted(re.sub(r", process \d+|, worker gw\d", "", line) for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_notices(project: Project, workers: list[str]) -> None:
    project.write(test_a=SLOW)

    ended = project.run(*QUICK, "--gencore-timeout=3", "--junitxml=j.xml", "--gencore-max-cores=0", *workers)

    assert ended.counts() == {"passed": 5}
    first, *others = notices_of(ended.err)
    assert first.startswith(
        "gencore: slow: test_a.py::test_compiled, call: more than 1 s of 3 s (timeout of gencore), in "
    )
    where = "more than 1 s of 3 s (timeout of gencore), in wait_for_server (test_a.py:7)"
    assert others == [
        f"gencore: slow: test_a.py::test_fixture, setup, module fixture 'server' of test_a.py:15: {where}",
        f"gencore: slow: test_a.py::test_slow, call: {where}",
    ]
    assert "slow" not in (project.folder / "j.xml").read_text().replace("test_slow", "")
    assert "captured" not in ended.out
    assert not project.find_archives()


def test_pytest_timeout(project: Project) -> None:
    project.write(test_a=SLOW)
    ended = project.run(*QUICK, "--timeout=3", "-k", "test_slow")

    assert ended.counts()["passed"] == 1
    assert [line.partition("process")[2].partition(": ")[2] for line in ended.err.splitlines() if line] == [
        "more than 1 s of 3 s (timeout of pytest-timeout), in wait_for_server (test_a.py:7)"
    ]


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(("ours", "theirs", "source"), [(9, 3, "pytest-timeout"), (3, 9, "gencore")])
def test_earlier_deadline(project: Project, ours: int, theirs: int, source: str) -> None:
    project.write(test_a=SLOW)
    ended = project.run(*QUICK, f"--timeout={theirs}", f"--gencore-timeout={ours}", "-k", "test_slow")

    (line,) = notices_of(ended.err)
    assert f"more than 1 s of 3 s (timeout of {source})" in line


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(
    ("options", "count"),
    [(["-q"], 0), (["--gencore-slow-notice=off"], 0), (["-q", "--gencore-slow-notice=on"], 1)],
)
def test_when(project: Project, options: list[str], count: int) -> None:
    project.write(test_a=SLOW)
    ended = project.run(*QUICK, "--gencore-timeout=3", "-k", "test_slow", *options)

    assert len(notices_of(ended.err)) == count
    assert "writing core archives" not in ended.out


@pytest.mark.slow
def test_hang_after_the_notice(project: Project) -> None:
    """The deadline is that of the test all the same, and its capture is another one."""
    project.write(
        test_a="""
        import time
        def test_it():
            time.sleep(4)
        """
    )
    ended = project.run(*QUICK, "--gencore-timeout=3")

    assert ended.counts()["passed"] == 1
    assert len(notices_of(ended.err)) == 1
    assert len(project.find_archives()) == 1
