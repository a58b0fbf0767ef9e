"""Collector and snapshot are killed or cannot write: a clear error; never a trace."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from gencore_archives import find_left
from hostile_captures import BOTH, PLAIN, needs_root
from kernel import small_disk
from process_state import processes_in
from subjects import run_subject

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("plain_core_pattern")


def assert_failed(answer: dict[str, Any], directory: Path, reason: str) -> None:
    """Check that the one capture failed and left nothing."""
    (outcome,) = answer["outcomes"]
    assert outcome["state"] == "failed"
    assert reason in outcome["reason"]
    assert find_left(directory) == []
    assert not processes_in(directory)


KILLED = """
import os, sys
import psutil
from kernel import wait_until
from subjects import *
captures = Captures(sys.argv[1])
if sys.argv[3] == "at work":
    ballast = os.urandom(200_000_000)  # cannot be compressed, so that it takes a while
captures.take(method=sys.argv[2])
(collector,) = collectors()
if sys.argv[3] == "at work":
    wait_until(lambda: captures.run.outcomes()[0].bytes_total, "the collector is at work")
snapshots = collector.children()  # method kernel: it has ended when its core is read
for process in [collector] if sys.argv[4] == "collector" else snapshots:
    process.kill()
outcomes = captures.finish()
psutil.wait_procs([collector, *snapshots], 30)
report(outcomes=outcomes)
"""


@BOTH
def test_collector_is_killed_when_it_starts(tmp_path: Path, method: str) -> None:
    answer = run_subject(KILLED, tmp_path / "out", method, "at once", "collector")

    assert_failed(answer, tmp_path / "out", "the collector ended without a word, as after SIGKILL")


@pytest.mark.slow(rows=1)
@BOTH
def test_collector_is_killed_at_work(tmp_path: Path, method: str) -> None:
    answer = run_subject(KILLED, tmp_path / "out", method, "at work", "collector")

    assert_failed(answer, tmp_path / "out", "the collector ended without a word, as after SIGKILL")


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("when", ["at once", "at work"])
def test_snapshot_is_killed(tmp_path: Path, when: str) -> None:
    answer = run_subject(KILLED, tmp_path / "out", "memory", when, "snapshot")

    assert_failed(answer, tmp_path / "out", "the snapshot ended before it was read (signal 9)")


@needs_root
@BOTH
def test_disk_is_full(tmp_path: Path, method: str) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        answer = run_subject(PLAIN.format(before="", between="", after=""), disk / "out", method)

        # Which of two it is depends on the moment: the reserve is touched, or a write has failed.
        assert_failed(answer, disk / "out", "full: ")
        assert re.match("(.*and )?the disk is (nearly )?full: ", answer["outcomes"][0]["reason"])


@BOTH
def test_file_size_limit_that_cannot_be_raised(tmp_path: Path, method: str) -> None:
    before = "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"

    answer = run_subject(PLAIN.format(before=before, between="", after=""), tmp_path / "out", method)

    assert_failed(answer, tmp_path / "out", "File too large")
