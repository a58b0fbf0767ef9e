"""Disk and memory: ``gencore check`` judges as a capture does."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import needs
from kernel import settings_lock, small_disk
from memory_cgroup import memory_cgroup

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    RunProgram = Callable[..., subprocess.CompletedProcess[str]]

MIB = 1 << 20
JOIN = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"


def finding(output: str, name: str) -> dict[str, Any]:
    (found,) = [entry for entry in json.loads(output)["findings"] if entry["name"] == name]
    return dict(found)


@pytest.mark.slow
@needs("root")
@pytest.mark.parametrize(
    ("used", "state"),
    [(0, "ok"), (920 * MIB, "problem"), (700 * MIB, "note")],
    ids=["empty", "full", "tight"],
)
def test_disk(run_program: RunProgram, tmp_path: Path, used: int, state: str) -> None:
    """Of a disk of 1200 MiB captures leave 300: what check says of it, the self-test finds true."""
    with settings_lock(exclusive=False), small_disk(tmp_path / "disk", "1200m") as disk:
        with (disk / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(used, 1))
        checked = run_program("check", disk / "out", "--json")
        tested = run_program("check", disk / "out", "--json", "--selftest")

    found = finding(checked.stdout, "disk")
    assert (found["state"], "captures keep 300.0 MiB free" in found["value"]) == (state, True)
    expected = 1 if state == "problem" else 0
    assert (checked.returncode, tested.returncode) == (expected, expected)
    if state == "problem":
        assert "captures keep 300.0 MiB free" in json.loads(tested.stdout)["selftest"]["reason"]


@needs("root", "memory_cgroup")
@pytest.mark.parametrize(
    ("limit", "state"), [(90 * MIB, "problem"), (220 * MIB, "note")], ids=["least", "some"]
)
def test_memory(run_program: RunProgram, tmp_path: Path, limit: int, state: str) -> None:
    """The cgroup is found as captures find it, and its file cache is not counted."""
    with memory_cgroup(limit) as cgroup:
        prefix = (sys.executable, "-c", JOIN, str(cgroup / "cgroup.procs"))
        checked = run_program("check", tmp_path / "out", "--json", prefix=prefix)

    assert finding(checked.stdout, "memory")["state"] == state
    assert checked.returncode == (1 if state == "problem" else 0)
