"""Many captures in one process leave nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from counts import count
from gencore_archives import find_left
from kernel import settings_lock
from process_state import processes_in
from subjects import run_subject

COUNT = count(24, thorough=50)
AT_A_TIME = 4

SUBJECT = """
import os, sys
from process_state import describe_process
from subjects import Captures, blocked_threads, report
directory, count, at_a_time = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
captures = Captures(directory)
with blocked_threads(2):
    describe_process()
    before = describe_process()
    for number in range(count):
        method = ("memory", "kernel")[number % 2]
        captures.take(method=method, core_filter=number // 2 % 2, product="core")
        if number % at_a_time == at_a_time - 1:
            captures.run.wait(timeout=60)
    captures.run.wait(timeout=60)
    after = describe_process()
temporary = os.listdir(os.environ["TMPDIR"])
report(outcomes=captures.finish(), before=before, after=after, pid=os.getpid(), temporary=temporary)
"""


@pytest.mark.slow
def test_many_captures(tmp_path: Path) -> None:
    """Both methods, several at a time."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    directory = tmp_path / "out"

    with settings_lock(exclusive=False):
        answer = run_subject(
            SUBJECT,
            directory,
            str(COUNT),
            str(AT_A_TIME),
            environment={"TMPDIR": str(temporary)},
            timeout=240,
        )

    failed = [outcome["reason"] for outcome in answer["outcomes"] if outcome["state"] != "done"]
    assert not failed
    names = sorted(path.name for path in find_left(directory))
    assert names == sorted(Path(outcome["archive"]).name for outcome in answer["outcomes"])
    assert len(names) == COUNT
    pattern = re.compile(rf"core_\d{{8}}\.\d{{6}}\.{answer['pid']}\.(\d{{3}})")
    numbers = [int(match[1]) for name in names if (match := pattern.fullmatch(name))]
    assert sorted(numbers) == list(range(1, COUNT + 1))
    assert answer["temporary"] == []
    different = {key for key in answer["before"] if answer["before"][key] != answer["after"][key]}
    assert not different
    assert not processes_in(tmp_path)
