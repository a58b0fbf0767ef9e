"""Pools of processes that give no result: the verdict tells what is known of their children."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_member
from projects import EXITS, QUICK, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORK = """
    import os, signal, time
    def hang(_=None):
        time.sleep(1000)
    def die(_):
        os.kill(os.getpid(), signal.SIGKILL)
"""
TESTS = """
    import concurrent.futures, multiprocessing, os
    from concurrent.futures import ProcessPoolExecutor
    import work
    context = multiprocessing.get_context(os.environ["METHOD"])
    pool = context.Pool(2)
    pool.map(abs, range(9))  # they have started before a test's time begins
    executor = ProcessPoolExecutor(2, mp_context=context)
    list(executor.map(abs, range(9)))
    def test_map():
        pool.map(work.hang, range(2))
    def test_imap():
        list(pool.imap_unordered(work.hang, range(2)))
    def test_killed():
        pool.map(work.die, range(2))
    def test_pool_join():
        pool.map_async(work.hang, range(2))
        pool.close()
        pool.join()
    def test_result():
        executor.submit(work.hang).result()
    def test_wait():
        concurrent.futures.wait([executor.submit(work.hang) for _ in range(3)])
    def test_shutdown():
        executor.submit(work.hang)
        executor.shutdown()
"""
POOL = r"a result of a pool of [12] child process(?:es)?: "
FORKED = r"child \d+ \(forked\): MainThread \(work\.py:4\) waits for sleep\(1000\)"
SLEEPS = r"child \d+ is sleeping in \w*(?:nanosleep|select)\w*"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Return the project; nothing of its runs may be left."""
    project = Project(tmp_path)
    project.write(test_a=TESTS, work=WORK)
    yield project
    project.close()


def verdict_of(project: Project, method: str, test: str, *arguments: str) -> str:
    """Run until the hang is captured."""
    options = (*QUICK, *arguments, f"test_a.py::{test}")
    running = project.start(*options, environment={"METHOD": method})
    try:
        (archive,) = project.wait_for_archives()
    finally:
        running.kill()
    return str(json.loads(read_member(archive, "diagnosis.json"))["verdict"]["text"])


@pytest.mark.slow(rows=1)
@pytest.mark.field
@pytest.mark.parametrize(
    ("test", "told"),
    [
        ("test_map", f"waits for {POOL}{FORKED}"),
        ("test_imap", f"waits for {POOL}{FORKED}"),
        ("test_result", f"waits for {POOL}{FORKED}"),
        ("test_wait", rf"waits for 3 results of a pool of 2 child processes: {FORKED}"),
        ("test_shutdown", rf"waits for the end of thread '[^']+', which waits for {POOL}{FORKED}"),
        ("test_pool_join", rf"waits for the end of thread '[^']+', which waits for {POOL}{FORKED}"),
        ("test_killed", f"waits for {POOL}all of them wait for work; probably the one that had it has ended"),
    ],
)
def test_forked(project: Project, test: str, told: str) -> None:
    assert re.fullmatch(told, text := verdict_of(project, "fork", test, "--gencore-timeout=1")), text


@pytest.mark.slow(rows=1)
@pytest.mark.field
@pytest.mark.parametrize(
    ("method", "arguments"),
    [("spawn", ()), ("spawn", EXITS), ("forkserver", ())],
    ids=["spawn", "spawn, exits", "forkserver"],
)
@pytest.mark.parametrize(
    ("test", "told"),
    [("test_map", f"waits for {POOL}{SLEEPS}, {SLEEPS}"), ("test_result", f"waits for {POOL}.*{SLEEPS}.*")],
)
def test_started_anew(
    project: Project, method: str, arguments: tuple[str, ...], test: str, told: str
) -> None:
    assert re.fullmatch(told, text := verdict_of(project, method, test, "--gencore-timeout=1", *arguments)), (
        text
    )


@pytest.mark.slow
@needs("root")  # to see the system calls of other processes
def test_a_child_that_waits_for_work_is_known(project: Project) -> None:
    told = f"waits for {POOL}(?:child \\d+ (?:waits for work|is sleeping in futex)(?:, |$)){{2}}"
    text = verdict_of(project, "spawn", "test_killed", "--gencore-timeout=3")
    assert re.fullmatch(told, text), text
    assert text.count("waits for work") == 1
