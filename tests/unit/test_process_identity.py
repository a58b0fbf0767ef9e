"""Whether a process still is the one that waits: also when the clock of the machine is set."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from capabilities import needs

from pytest_gencore.machine.process import start_ticks, why_no_descriptors
from pytest_gencore.run.folder import is_awaited, new_run_id, run_folder_name

SHIFTED = 'mount --bind "$0" /proc/stat && exec "$@"'
"""Start a command that sees another time of boot: the kernel computes it from the wall clock."""
ASK = """
import sys, time, pathlib
from pytest_gencore.run.folder import is_awaited
before = pathlib.Path(sys.argv[1]).read_text().split("btime ")[1].split()[0]
assert pathlib.Path("/proc/stat").read_text().split("btime ")[1].split()[0] == before
print(is_awaited(pathlib.Path(sys.argv[2])))
"""


def test_start_is_the_kernels() -> None:
    line = subprocess.run(["cat", "/proc/self/stat"], capture_output=True, text=True, check=True).stdout
    pid = int(line.split()[0])
    with_own = start_ticks(os.getpid())
    assert with_own <= int(line.rpartition(")")[2].split()[19])
    assert pid != os.getpid()


def test_another_process_with_the_id_is_not_awaited(tmp_path: Path) -> None:
    folder = tmp_path / run_folder_name(new_run_id())
    folder.mkdir()
    assert is_awaited(folder)
    pid, ticks, rest = folder.name.removeprefix(".gencore-").split("-")
    assert not is_awaited(tmp_path / f".gencore-{pid}-{int(ticks) + 1}-{rest}")
    assert not is_awaited(tmp_path / ".gencore-nonsense")


def test_process_that_nobody_has_waited_for_has_ended(tmp_path: Path) -> None:
    """What a timer of pytest-timeout has ended stays in /proc until its parent looks."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    folder = tmp_path / f".gencore-{process.pid}-{start_ticks(process.pid)}-0"
    folder.mkdir()
    assert is_awaited(folder)
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(process.pid)
    assert not is_awaited(folder)
    process.wait()


@needs("root")
def test_clock_of_the_machine_is_set(tmp_path: Path) -> None:
    folder = tmp_path / run_folder_name(new_run_id())
    folder.mkdir()
    stat = Path("/proc/stat").read_text()
    shifted = tmp_path / "stat"
    shifted.write_text(re.sub(r"btime (\d+)", lambda found: f"btime {int(found[1]) + 1}", stat))
    command: list[str | Path] = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        SHIFTED,
        shifted,
        sys.executable,
        "-c",
        ASK,
        shifted,
        folder,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errno.ENOSYS, "the kernel or a seccomp filter has no pidfd_open: Function not implemented"),
        (errno.EPERM, "the kernel or a seccomp filter has no pidfd_open: Operation not permitted"),
        (errno.EMFILE, ""),
    ],
)
def test_why_processes_have_no_descriptors(monkeypatch: pytest.MonkeyPatch, error: int, reason: str) -> None:
    """What only happens now and then, as a process with too many open files, is no reason."""

    def refuse(_pid: int) -> int:
        raise OSError(error, os.strerror(error))

    assert why_no_descriptors() == ""
    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert why_no_descriptors() == reason
    monkeypatch.delattr(os, "pidfd_open")
    assert why_no_descriptors() == "this Python was built without os.pidfd_open"
