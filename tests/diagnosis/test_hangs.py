"""Hangs that people report: the verdict that a reader needs, for each; also with workers."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_member
from projects import QUICK, Project
from slow_tests import find_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).parent / "programs"
FILE = r"test_\w+\.py:\d+"
ADDRESS = r"127\.0\.0\.1:\d+"
VERDICTS = {
    # threads
    "test_two_locks": rf"deadlock: MainThread waits for lock 'ledger' held by rival-thread \({FILE}\), "
    rf"which waits for lock 'accounts' held by MainThread \({FILE}\)",
    "test_two_rlocks": rf"deadlock: MainThread waits for lock 'vault' held by rival-thread \({FILE}\), "
    rf"which waits for lock 'drawer' held by MainThread \({FILE}\)",
    "test_lock_twice": rf"deadlock: MainThread waits for lock 'lock' held by itself \({FILE}\)",
    "test_lock_of_an_object": rf"waits for lock 'Account\.lock' held by closer \({FILE}\), "
    r"which waits for sleep\(1000\)",
    "test_lock_behind_a_generator": rf"waits for lock 'lock' held by holder \({FILE}\), "
    r"which waits for sleep\(1000\)",
    "test_lock_in_an_exit_stack": rf"waits for lock 'lock' held by holder \({FILE}\), "
    r"which waits for sleep\(1000\)",
    "test_lock_without_with": r"waits for lock 'lock', which no `with` of a thread or task holds: "
    r"who has it is not known",
    "test_join": r"waits for the end of thread 'worker', which waits for event 'never', not set",
    "test_get": r"waits for queue\.get\(\) of an empty queue \('jobs'\)",
    "test_put": r"waits for queue\.put\(\) to a full queue \('jobs', 1 item\)",
    "test_queue_join": r"waits for queue\.join\(\) \('jobs', 1 unfinished\)",
    "test_simple_queue": r"waits for queue\.get\(\) of an empty queue \('letters'\)",
    "test_condition": r"waits for condition 'changed' to be notified",
    "test_event": r"waits for event 'never', not set",
    "test_barrier": r"waits for barrier 'gate' \(1 of 3 there\)",
    "test_semaphore": r"waits for semaphore 'slots' \(0 left\)",
    "test_pool_that_waits_for_itself": rf"deadlock: MainThread waits for the result of a future \(running\), "
    rf"run by pool_0 \({FILE}\), which waits for the result of future 'inner' \(pending\), queued for pool_0",
    "test_future_behind_our_lock": rf"deadlock: MainThread waits for the result of a future \(running\), "
    rf"run by pool_0 \({FILE}\), which waits for lock 'lock' held by MainThread \({FILE}\)",
    "test_sleep": r"waits for sleep\(1000\)",
    "test_recv": rf"waits for {ADDRESS}(?: \(this process\))?, connected, nothing received since it was made "
    rf"\d.* ago.* \(fd \d+, TCP from {ADDRESS}\)",
    # tasks
    "test_queue_never_filled": rf"asyncio: queue_never_filled waits for task 'consumer' \({FILE}\), "
    r"which waits for queue\.get\(\) of an empty queue \('orders'\)",
    "test_of_pytest_asyncio": rf"asyncio: test_of_pytest_asyncio waits for task 'consumer' \({FILE}\), "
    r"which waits for queue\.get\(\) of an empty queue \('orders'\)",
    "test_lock_of_a_task": rf"asyncio: serve waits for lock 'till' held by task 'cook' \({FILE}\), "
    r"which waits for an event, not set",
    "test_two_tasks": rf"deadlock: main waits for gather of task 'lefty', task 'righty' \({FILE}\), "
    rf"which waits for lock 'right' held by task 'righty' \({FILE}\), "
    rf"which waits for lock 'left' held by task 'lefty' \({FILE}\)",
    "test_task_group": rf"asyncio: main waits for its task group: task 'child' \({FILE}\), "
    r"which waits for an event, not set",
    "test_stream": rf"asyncio: main waits for {ADDRESS} \(this process\), connected, nothing received .*",
    "test_thread_of_a_task": r"asyncio: main waits for the result of a future, run by asyncio_0, "
    r"which waits for event 'never', not set",
    "test_own_loop": r"deadlock: MainThread waits for the result of a future \(pending\), run by MainThread",
    "test_anyio": r"asyncio: main waits for its task group: task 'receiver' \(.+\), "
    r"which waits for stream\.receive\(\) of a stream \('receive'\)",
    "test_wait_for": r"asyncio: main waits at most 16 min 40 s for "
    r"(?:an event, not set|task '(?:Event\.)?wait').*",  # 3.10 has no qualified names
    # processes and descriptors
    "test_full_pipe": r"waits for child \d+: head -c200000 /dev/zero, "
    r"sleeping in (?:anon_)?pipe_write: its output pipe \(fd 1\) is full "
    r"and the test process does not read it",
    "test_sleeping_child": r"waits for child \d+: sleep 1000, sleeping in \w+, .* old, \d+ % CPU over .*",
    "test_read_of_a_pipe": r"waits for fd \d+: read end of a pipe, empty, written by this process \(fd \d+\)",
    "test_write_to_a_pipe": r"waits for fd \d+: write end of a pipe, full \(65536 bytes\), "
    r"read by this process \(fd \d+\)",
    "test_flock": r"waits for fd \d+: \S+/lock, locked \(FLOCK\) by process \d+ \((?:flock|sleep)\)",
    "test_process_join": rf"waits for child \d+ \(forked\): MainThread \({FILE}\) is in sleep\(\)",
    "test_busy": rf"busy: \d+ % CPU at {FILE}",
    "test_module_import": r"waits for sleep\(1000\)",
}
ROWS = [pytest.param(name, marks=[pytest.mark.slow] if n % 3 else []) for n, name in enumerate(VERDICTS)]
NEW = {"test_task_group": (3, 11)}
FILES = ("threads", "tasks", "processes")


@pytest.fixture(scope="module")
def verdicts(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, str]]:
    """Return what was said of each hang, by the test's name: all three files in one run."""
    rows = find_rows("test_verdict", request)
    project = Project(tmp_path_factory.mktemp("hangs"))
    project.write(**{f"test_{name}": (PROGRAMS / f"hangs_of_{name}.py").read_text() for name in FILES})
    try:
        project.run(
            *QUICK,
            *("-p", "pytest_asyncio.plugin", "-p", "anyio", "-n4"),  # they wait, most of the time
            *("--gencore-timeout=1s", "--timeout=5", "-o", "asyncio_mode=strict"),
            *("-k", " or ".join(rows)),
        )
        found = {}
        for nodeid, archive in project.archives().items():
            diagnosis = json.loads(read_member(archive, "diagnosis.json"))
            verdict = diagnosis["verdict"]
            found[re.sub(r"^.*::| call$", "", nodeid)] = verdict and verdict["text"]
        yield found
    finally:
        project.close()


@pytest.mark.xdist_group("hangs-of-diagnosis")
@pytest.mark.parametrize("name", ROWS)
def test_verdict(verdicts: dict[str, str], name: str) -> None:
    if sys.version_info[:2] < NEW.get(name, (3, 10)):
        pytest.skip("the hang needs a newer Python")
    assert re.fullmatch(VERDICTS[name], verdicts[name] or ""), verdicts[name]
