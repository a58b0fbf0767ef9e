"""Room on the disk and in the budget of a run."""

from __future__ import annotations

import errno
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_gencore.collector.giving_up import GiveUpError
from pytest_gencore.collector.space import Budget, Disk, describe_os_error, reserve_of
from pytest_gencore.runfolder import FULL_MARK

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.collector.handover import Handover

MIB = 1 << 20
GIB = 1 << 30


@pytest.mark.parametrize(
    ("size", "reserve"),
    [
        (64 * MIB, 16 * MIB),
        (2 * GIB, GIB // 2),
        (8 * GIB, GIB),
        (20 * GIB, GIB),
        (200 * GIB, 10 * GIB),
        (0, 0),
    ],
)
def test_reserve(size: int, reserve: int) -> None:
    assert reserve_of(size) == reserve


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(blocks: int) -> None:
        status = SimpleNamespace(f_frsize=MIB, f_blocks=64, f_bavail=blocks)
        monkeypatch.setattr("os.statvfs", lambda _: status)

    disk = Disk(tmp_path, tmp_path)
    free(16)
    assert disk.spare() == 0
    disk.check()
    free(15)
    with pytest.raises(GiveUpError, match=r"has 15.0 MiB free, captures leave 16.0 MiB \(free space"):
        disk.check()


def test_a_disk_that_does_not_tell(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "none", tmp_path)
    assert disk.spare() is None
    disk.check()


def test_errors(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert describe_os_error(full, tmp_path) == f"the disk is full: No space left on device: {tmp_path}"
    gone = tmp_path / "gone"
    assert (
        describe_os_error(FileNotFoundError(errno.ENOENT, "x"), gone) == f"the directory was removed: {gone}"
    )
    other = OSError(errno.EIO, "Input/output error", "/x")
    assert describe_os_error(other, tmp_path) == "Input/output error: /x"


def budget_of(folder: Path, limit: int) -> Budget:
    handover: Any = SimpleNamespace(run_folder=folder, name="own", request={"max_bytes": limit})
    return Budget(cast("Handover", handover))


def write_states(folder: Path) -> None:
    for name, state, size in (
        ("a", "done", 10),
        ("b", "done", 20),
        ("c", "failed", 500),
        ("own", "done", 900),
    ):
        (folder / f"{name}.json").write_text(json.dumps({"state": state, "size": size}))
    (folder / "broken.json").write_text("{")


def test_budget(tmp_path: Path) -> None:
    write_states(tmp_path)
    budget = budget_of(tmp_path, 100)
    with budget.locked():
        budget.check(70)
    assert not (tmp_path / FULL_MARK).exists()
    with pytest.raises(
        GiveUpError, match=r"larger than 100 B: 30 B are finished \(raise --gencore-max-size\)"
    ):
        budget.check(71)
    assert (tmp_path / FULL_MARK).exists(), "later captures are refused"


def test_no_budget(tmp_path: Path) -> None:
    write_states(tmp_path)
    budget = budget_of(tmp_path, 0)
    with budget.locked():
        budget.check(1 << 60)
    assert not (tmp_path / FULL_MARK).exists()
