"""A hang is told when it is found: not only if a report comes, or the end of a worker is seen."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from projects import EXITS, QUICK

if TYPE_CHECKING:
    from projects import Project

pytestmark = pytest.mark.field

HANGS = """
    import threading
    lock = threading.Lock()
    def test_before(): pass
    def test_hang():
        lock.acquire(); lock.acquire()
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", ["-n1", "-n2"])
def test_hang_in_a_worker_that_nobody_ends(project: Project, workers: str) -> None:
    project.write(test_a=HANGS)

    running = project.start(workers, *QUICK, "--gencore-timeout=1")
    (archive,) = project.wait_for_archives()
    told = running.kill_when_told(f"gencore: core archive: {project.shown(archive)}").err

    assert "gencore: took longer than 1 s (timeout of gencore): test_a.py::test_hang, call, worker gw" in told
    assert "lock.acquire(); lock.acquire()" in told


FORKS = """
    import os, signal
    def fork():
        child = os.fork()
        if child == 0:
            while True:
                signal.pause()
        with open(f"child-{child}", "w"):
            return child
    def test_hang():
        os.waitpid(fork(), 0)
    def test_crash():
        fork()
        os.kill(os.getpid(), signal.SIGSEGV)
    def test_after(): pass
"""


@pytest.mark.slow
def test_children_that_keep_the_pipe_of_a_worker(project: Project) -> None:
    """The controller would wait for the end of the pipe for ever; execnet waits 20 s for it at the end."""
    project.write(test_a=FORKS)

    running = project.start("-n1", *QUICK, "--gencore-timeout=1", *EXITS)
    try:
        running.process.wait(90)
    finally:  # they have our pipes, too
        children = [int(path.name.rpartition("-")[2]) for path in project.folder.glob("child-*")]
        for child in children:
            os.kill(child, signal.SIGKILL)
    ended = running.end()

    assert len(children) == 2
    assert ended.counts() == {"failed": 2, "passed": 1}
    archives = project.archives()
    for name, said in (("test_hang", "took longer than 1 s"), ("test_crash", "SIGSEGV")):
        assert f"crashed while running 'test_a.py::{name}'" in ended.out
        assert said in ended.out
        assert f"gencore: core archive: {project.shown(archives[f'test_a.py::{name} call'])}" in ended.out
