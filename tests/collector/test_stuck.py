"""Collectors and snapshots that are stopped: nobody waits for them for ever, and it is said what they did."""

from __future__ import annotations

from pathlib import Path

import pytest
from capabilities import needs
from gencore_archives import find_left
from held_captures import HELPERS
from kernel import settings_lock, wait_until
from outcomes import only
from process_state import processes_in
from subjects import run_subject

STOPPED_COLLECTOR = """
import short_patience
captures = Captures(sys.argv[1])
capture, collector = hold(captures, nodeid="a")
if sys.argv[2] == "at work":
    suspend_snapshot(collector)
    collector.resume()
    wait_until(lambda: captures.run.outcomes()[0].captured_pid, "it is at work")
    collector.suspend()
if sys.argv[3] == "wait":
    (outcome,) = captures.run.wait(timeout=50)
else:
    outcome = captures.run.wait_for(name_of(capture))
again = captures.take(trigger="failure", nodeid="a" if sys.argv[2] == "at work" else "b")
report(outcomes=[as_facts(outcome), *captures.finish()[1:]], alive=collector.is_running())
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("when", ["at once", "at work"])
@pytest.mark.parametrize("wait", ["wait", "wait_for"])
def test_a_stopped_collector_is_ended(tmp_path: Path, when: str, wait: str) -> None:
    answer = run_subject(HELPERS + STOPPED_COLLECTOR, tmp_path, when, wait)

    first, second = answer["outcomes"]
    assert (first["state"], first["reason"]) == (
        "failed",
        "the collector has not moved for 2 s: it is stopped",
    )
    assert second["state"] == "done", "its claim is free, if it has told which it was"
    assert find_left(tmp_path) == [Path(second["archive"])]
    wait_until(lambda: not processes_in(tmp_path), "all of it has ended")


STOPPED_SNAPSHOT = """
import short_patience
captures = Captures(sys.argv[1])
capture, collector = hold(captures, nodeid="a")
suspend_snapshot(collector)
collector.resume()
report(outcomes=captures.finish())
"""


@pytest.mark.slow
def test_a_stopped_snapshot_ends_the_capture(tmp_path: Path) -> None:
    outcome = only(run_subject(HELPERS + STOPPED_SNAPSHOT, tmp_path))

    assert (outcome["state"], outcome["reason"]) == (
        "failed",
        "the snapshot has not moved for 2 s: it is stopped",
    )
    assert find_left(tmp_path) == []
    wait_until(lambda: not processes_in(tmp_path), "all of it has ended")


STOPPED_COPY = """
import short_patience
from pytest_gencore.capture import start
main = "from {module} import main"
stop = '''
from pytest_gencore.collector.source.snapshot import Snapshot
from pytest_gencore.machine.process import state_of
import os
ask = Snapshot.copy_to_crash
def copy_that_is_stopped(snapshot):
    pid = ask(snapshot)
    os.kill(pid, 19)
    while state_of(pid) != "T": pass
    return pid
Snapshot.copy_to_crash = copy_that_is_stopped
'''
start._START = start._START.replace(main, "\\n" + stop + main)
captures = Captures(sys.argv[1])
captures.take(method="kernel")
report(outcomes=captures.finish())
"""


@pytest.mark.slow
@needs("plain core_pattern")
def test_a_stopped_copy_ends_the_capture(tmp_path: Path) -> None:
    """Stopped, it does not die of its SIGSEGV, and the kernel writes no core."""
    with settings_lock(exclusive=False):
        outcome = only(run_subject(HELPERS + STOPPED_COPY, tmp_path))

    assert outcome["state"] == "failed"
    assert (
        outcome["reason"] == "the process whose core the kernel writes has not moved for 2 s: it is stopped"
    )
    assert find_left(tmp_path) == []
    wait_until(lambda: not processes_in(tmp_path), "all of it has ended")
