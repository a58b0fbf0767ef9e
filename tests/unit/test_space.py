"""Room on the disk, and under the quota of a run."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.collector.outcome.os_errors import describe_os_error
from pytest_gencore.errors import LimitError, NoSpaceError
from pytest_gencore.machine.disk import Disk, reserve_of
from pytest_gencore.run.files import FULL
from pytest_gencore.run.quota import SizeQuota
from pytest_gencore.run.state import CaptureState, write_state

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.run.state import Phase

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
    space = disk.measure()
    assert space is not None
    assert space.spare == 0
    disk.check()
    free(15)
    with pytest.raises(NoSpaceError, match=r"has 15.0 MiB free, captures keep 16.0 MiB free \(free space"):
        disk.check()


def test_a_disk_that_does_not_tell(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "none", tmp_path)
    assert disk.measure() is None
    disk.check()


def test_errors(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert describe_os_error(full, tmp_path) == f"the disk is full: No space left on device: {tmp_path}"
    quota = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert describe_os_error(quota, tmp_path) == f"the quota is used up: Disk quota exceeded: {tmp_path}"
    gone = tmp_path / "gone"
    assert describe_os_error(FileNotFoundError(errno.ENOENT, "x"), gone) == f"the directory is gone: {gone}"
    other = OSError(errno.EIO, "Input/output error", "/x")
    assert describe_os_error(other, tmp_path) == "Input/output error: /x"
    nameless = OSError(errno.ENOMEM, "Cannot allocate memory")
    assert describe_os_error(nameless, tmp_path) == "Cannot allocate memory"


def write_states(folder: Path) -> None:
    states: list[tuple[str, Phase, int]] = [
        ("a", "done", 10),
        ("b", "done", 20),
        ("c", "failed", 500),
        ("own", "done", 900),
    ]
    for name, state, size in states:
        descriptor = os.open(folder / f"{name}.json", os.O_WRONLY | os.O_CREAT)
        write_state(descriptor, CaptureState(state=state, size=size))
        os.close(descriptor)
    (folder / "broken.json").write_text("{")


def test_quota(tmp_path: Path) -> None:
    write_states(tmp_path)
    quota = SizeQuota(tmp_path, "own", 100)
    with quota.locked():
        quota.check(70)
    assert not (tmp_path / FULL.named()).exists()
    with pytest.raises(
        LimitError, match=r"larger than 100 B: 30 B are finished \(raise --gencore-max-size\)"
    ):
        quota.check(71)
    assert (tmp_path / FULL.named()).exists(), "later captures are refused"


def test_no_quota(tmp_path: Path) -> None:
    write_states(tmp_path)
    quota = SizeQuota(tmp_path, "own", 0)
    with quota.locked():
        quota.check(1 << 60)
    assert not (tmp_path / FULL.named()).exists()
