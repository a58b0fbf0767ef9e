"""A capture is invisible to the process that it captures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kernel import settings_lock
from process_state import processes_in
from subjects import run_subject

if TYPE_CHECKING:
    from pathlib import Path

SUBJECT = """
import ctypes, os, signal, sys
from process_state import describe_process
from subjects import Captures, blocked_threads, report
directory, kind, method = sys.argv[1:]
calls = []
if kind == "handler":
    signal.signal(signal.SIGCHLD, lambda *_: calls.append(1))
elif kind == "ignored":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
elif kind == "subreaper":
    signal.signal(signal.SIGCHLD, lambda *_: calls.append(1))
    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
elif kind == "masked":
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
captures = Captures(directory)

def wait_for_a_child():
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return "no child"

with blocked_threads(3):
    describe_process()  # the first time imports and caches
    before = describe_process()
    captures.take(method=method)
    at_once = describe_process()
    children = [wait_for_a_child()]
    captures.run.wait(timeout=50)
    after = describe_process()
    children.append(wait_for_a_child())
outcomes = captures.finish()
report(before=before, at_once=at_once, after=after, calls=calls, children=children, outcomes=outcomes)
"""


@pytest.mark.slow(rows=4)
@pytest.mark.parametrize("method", ["memory", "kernel"])
@pytest.mark.parametrize("kind", ["plain", "handler", "ignored", "subreaper", "masked"])
def test_nothing_changes(tmp_path: Path, kind: str, method: str) -> None:
    with settings_lock(exclusive=False):
        answer = run_subject(SUBJECT, tmp_path / "out", kind, method)

    assert [outcome["state"] for outcome in answer["outcomes"]] == ["done"], answer["outcomes"]
    assert answer["children"] == ["no child", "no child"]
    assert not answer["calls"], "no SIGCHLD"
    assert_same(answer["before"], answer["at_once"])
    assert_same(answer["before"], answer["after"])
    assert not processes_in(tmp_path)


FUTURE = """
import sys, threading
from kernel import wait_until
from process_state import describe_process
from pytest_gencore import create_core
from subjects import report
create_core(sys.argv[1], method="memory", core_filter=0).result(50)  # imports
wait_until(lambda: len(describe_process()["threads"]) == 1, "the first thread has ended")
before = describe_process()
future = create_core(sys.argv[1], method="memory", core_filter=0)
names = [thread.name for thread in threading.enumerate()]
future.result(50)
wait_until(lambda: describe_process()["threads"] == before["threads"], "the thread has ended")
report(before=before, after=describe_process(), names=names)
"""


def test_the_waiting_thread_of_a_future_ends(tmp_path: Path) -> None:
    """The public functions have one documented trace: a thread that waits for the collector."""
    answer = run_subject(FUTURE, tmp_path / "out")

    assert set(answer["names"]) <= {"MainThread", "gencore-wait"}
    assert_same(answer["before"], answer["after"])


SIGNALS_OF_OTHERS = """
import os, signal, sys
from subjects import Captures, blocked_threads, report
calls = []
for number in range(signal.SIGRTMIN + 1, signal.SIGRTMAX + 1):
    signal.signal(number, lambda number, _: calls.append(number))
captures = Captures(sys.argv[1])
with blocked_threads(3):
    captures.take(method="memory")
(outcome,) = captures.finish()
os.kill(os.getpid(), signal.SIGRTMAX)
report(outcome=outcome, calls=calls, last=signal.SIGRTMAX)
"""


def test_signals_that_are_taken_stay_taken(tmp_path: Path) -> None:
    answer = run_subject(SIGNALS_OF_OTHERS, tmp_path / "out")

    assert answer["outcome"]["state"] == "done", answer
    assert answer["calls"] == [answer["last"]]


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Compare by key, so that a difference is readable."""
    assert before.keys() == after.keys()
    different = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
    assert not different
