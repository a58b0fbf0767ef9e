"""Runs of pytest under limits of the host: they end, with an archive or with the true reason for none."""

from __future__ import annotations

import gzip
import signal
from typing import TYPE_CHECKING

import pytest
from capabilities import both_methods, needs
from kernel import wait_until
from lean_runs import WITH_LIBRARIES
from limit_cases import Case, Injector
from pids_cgroup import pids_cgroup
from process_state import processes_in
from projects import ON_FAIL, Project

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.field

FAILS = "def test_x():\n    assert 0\n"
FILLED = "import os\nballast = os.urandom(8 << 20)\n" + FAILS
LEAKS = """
import os
kept = []
def test_x():
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        for _ in range({spare}):
            os.close(kept.pop())
    {end}
"""
PLAIN = ("-p", "no:rerunfailures")
"""That one has a thread, which would count."""
TOO_LARGE = "(the limit on the size of files: ulimit -f, or the file system's)"


def limited(option: str, value: int) -> tuple[str, ...]:
    """Return what runs a command with a limit of the shell."""
    return ("bash", "-c", f'ulimit {option} {value} && exec "$@"', "bash")


def reasons(out: str) -> list[str]:
    """Return why captures of a run failed."""
    return [line.removeprefix("failed: ") for line in out.splitlines() if line.startswith("failed: ")]


@pytest.mark.slow(rows=2)
@both_methods
@pytest.mark.parametrize("pystack", [True, False], ids=["pystack", "no pystack"])
def test_file_size(project: Project, method: str, *, pystack: bool) -> None:
    """Not even the core for pystack can be written; the snapshot is read once more after that."""
    project.write(test_a=FILLED)
    arguments = ("--gencore-on-fail", WITH_LIBRARIES, f"--gencore-method={method}")
    ended = project.run(*arguments, pystack=pystack, prefix=limited("-f", 6000))
    assert ended.status == 1
    (reason,) = {reason for reason in reasons(ended.out) if "test_a" not in reason}
    assert reason == f"File too large: {project.folder}/gencore-artifacts {TOO_LARGE}"


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("limit", [16, 18, 20])
def test_few_descriptors(project: Project, limit: int) -> None:
    """Whichever step finds none left."""
    project.write(test_a=FAILS)
    ended = project.run(*ON_FAIL, *PLAIN, "-p", "no:xdist", prefix=limited("-n", limit))
    assert ended.status == 1
    (reason,) = {reason for reason in reasons(ended.out) if "::" not in reason}
    assert "Too many open files" in reason
    project.close()
    assert not list(project.folder.glob("gencore-artifacts/*"))


@pytest.mark.slow(rows=2)
@pytest.mark.parametrize("spare", [0, 1, 2, 3])
def test_no_descriptors_left(project: Project, spare: int) -> None:
    project.write(test_a=LEAKS.format(spare=spare, end="assert 0"))
    ended = project.run(*ON_FAIL, "--junitxml=j.xml", prefix=limited("-n", 256))
    assert ended.status == 1
    assert "1 captured" in ended.out
    assert f"core archive: {project.shown(project.only_archive())}" in ended.out
    assert "failed: test_a.py::test_x" in ended.out, "and its stacks"


def test_no_descriptors_left_where_no_capture_is_possible(project: Project) -> None:
    """What there is to say at the end has to be imported then."""
    broken = "import sys\nsys.executable = ''\n"
    project.write(conftest=broken, test_a=LEAKS.format(spare=0, end="assert 0"))
    ended = project.run(*ON_FAIL, *PLAIN, "-p", "no:xdist", prefix=limited("-n", 256))
    assert ended.status == 1
    assert ended.counts() == {"failed": 1}
    assert "no capture is possible: the Python interpreter cannot be started again" in ended.out


def test_a_crash_without_descriptors_waits(project: Project) -> None:
    """The archive is there when the process has ended."""
    crash = "ctypes.string_at(8)"
    project.write(test_a="import ctypes\n" + LEAKS.format(spare=0, end=crash))
    look = ("bash", "-c", 'ulimit -n 256; "$@"; status=$?; ls gencore-artifacts; exit $status', "bash")
    ended = project.run(*ON_FAIL, prefix=look)
    assert ended.status == 128 + signal.SIGSEGV
    assert project.only_archive().name in ended.out.split()


@pytest.mark.slow(rows=1)
@needs("root", "pids_cgroup")
@pytest.mark.parametrize("tasks", [4, 5, 6])
def test_few_tasks(project: Project, tasks: int) -> None:
    """Three more than the one of pytest are enough: the collector compresses without threads."""
    project.write(test_a=FAILS)
    with pids_cgroup(tasks) as prefix:
        ended = project.run(*ON_FAIL, *PLAIN, prefix=prefix)
        project.close()
    assert ended.status == 1
    assert "1 captured" in ended.out
    assert gzip.decompress(project.only_archive().read_bytes())


@pytest.mark.slow(rows=1)
@needs("root", "pids_cgroup")
@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_too_few_tasks(project: Project, tasks: int) -> None:
    project.write(test_a=FAILS)
    with pids_cgroup(tasks) as prefix:
        ended = project.run(*ON_FAIL, *PLAIN, prefix=prefix)
    assert ended.status == 1
    assert "EAGAIN Resource temporarily unavailable (raise the limit on processes" in ended.out


@pytest.mark.slow
def test_a_crash_ends_a_collector_that_is_stopped(tmp_path: Path) -> None:
    """After a minute; it would hold the pipes of the run open as long as it lives."""
    project = Project(tmp_path)
    project.write(test_a="import ctypes\ndef test_x():\n    ctypes.string_at(8)\n")
    stop = Case(0, "", (), set(), injected=(signal.SIGSTOP, "collector"), delay=0.05)
    with Injector(stop, tmp_path) as injector:
        ended = project.run(*ON_FAIL, timeout=100)
        assert injector.victims
        wait_until(
            lambda: not processes_in(tmp_path), "the collector has ended while the stop lasts", timeout=10
        )
    assert ended.status == -11
    assert "Fatal Python error" in ended.err
    assert not ended.announced(), "it was stopped"
