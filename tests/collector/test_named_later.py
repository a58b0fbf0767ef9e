"""Captures by signal handlers are prepared once; they are of the test that runs then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from dying import run_dying
from gencore_archives import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

NAMED_LATER = """
Dying(sys.argv[1]).watch_crashes()
_native.set_test('"test_b.py::test_b[\\\\u00e4]"')
_native.set_test_phase(Phase.SETUP, 2)
os.abort()
"""


def test_the_test_that_runs_then_is_named(tmp_path: Path) -> None:
    dead = run_dying(NAMED_LATER, tmp_path)

    assert dead.archive is not None
    manifest = read_manifest(dead.archive)
    assert manifest["nodeid"] == "test_b.py::test_b[\u00e4]"
    assert (manifest["phase"], manifest["attempt"]) == ("setup", 2)


CLAIMS = """
from pytest_gencore.protocol import Stage
dying = Dying(sys.argv[1])
hang, crash, other_worker = (
    dying.arm(trigger, await_seconds=0, worker_id=worker, once_a_worker=True)
    for trigger, worker in (("timeout", "gw0"), ("crash", "gw0"), ("timeout", "gw1"))
)
def capture(test, standby):
    _native.set_test(test)
    _native.set_deadline(0, 0.001, standby, False)
    while not (fired := _native.cancel_deadline(0) if _native.deadline_fired(0) else None):
        pass
    return Stage(fired[1][0])
assert capture('"a"', hang) is Stage.NONE
assert capture('"a"', hang) is Stage.CLAIMED
assert capture('"b"', hang) is Stage.NONE
assert capture("null", hang) is Stage.NONE, "between tests is not a test"
assert capture('"a"', crash) is Stage.NONE
assert capture('"a"', other_worker) is Stage.NONE
assert [outcome.state for outcome in dying.run.wait(timeout=50)] == ["done"] * 5
for path in Path(sys.argv[1]).glob("*.tar.gz"):
    path.unlink()
dying.run.close()
"""


@pytest.mark.slow
def test_each_test_is_captured_once_for_each_claim(tmp_path: Path) -> None:
    dead = run_dying(CLAIMS, tmp_path)

    assert dead.status == 0, dead.errors
