"""Tests go first; but nobody waits longer than needed for a process that dies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
import pytest
from capabilities import needs
from dying import run_dying
from fake_pystack import fake_pystack
from gencore_archives import read_manifest
from held_captures import HELPERS
from subjects import run_subject

if TYPE_CHECKING:
    from pathlib import Path

PRIORITIES = """
from kernel import wait_until
captures = Captures(sys.argv[1])
_, collector = hold(captures, nodeid="a")
(snapshot,) = collector.children()
wait_until(lambda: snapshot.ionice()[1] == 7, "the snapshot has run")  # it lowers its own, this last
processes = [psutil.Process(), collector, snapshot]
found = [(process.nice(), *process.ionice()) for process in processes]
collector.resume()
report(found=found, outcomes=captures.finish())
"""


def test_tests_go_first(tmp_path: Path) -> None:
    """The test process keeps its priorities for processors and disks; the others have lower ones."""
    found = run_subject(HELPERS + PRIORITIES, tmp_path)["found"]

    assert isinstance(found, list)
    own, collector, snapshot = found
    best_effort, lowest = 2, 7
    assert collector == snapshot == [min(own[0] + 10, 19), best_effort, lowest]
    assert own[1:] == [0, 0]


DYING = """
start._find_pystack = lambda: sys.argv[2]
faulthandler.enable()
dying = Dying(sys.argv[1])
if sys.argv[3] == "crashes":
    dying.watch_crashes(method="memory")
    ctypes.string_at(8)
standby = dying.arm("timeout", deadline_seconds=0.2, deadline_source="gencore")
_native.set_deadline(0, 0.2, standby, True)
threading.Event().wait()
"""
TELL = "import psutil; own = psutil.Process(); sys.exit(f'priorities {own.nice()}, {own.ionice()[0]}')"


@needs("pystack")
@pytest.mark.parametrize("death", ["crashes", "ends at its deadline"])
def test_a_dying_process_does_not_wait_longer(tmp_path: Path, death: str) -> None:
    """Its collector, and so the pystack of that, has the priorities of the process."""
    directory = tmp_path / "out"

    dead = run_dying(DYING, directory, fake_pystack(tmp_path, TELL), death)

    assert dead.archive is not None
    (notice,) = [text for text in read_manifest(dead.archive)["notices"] if "priorities" in text]
    assert notice.endswith(f"priorities {os.getpriority(os.PRIO_PROCESS, 0)}, {psutil.IOPRIO_CLASS_NONE:d}")
