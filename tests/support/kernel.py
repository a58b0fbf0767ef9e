"""Settings of the whole machine in tests: changed under a lock that all test runs share, always restored.

The lock is a file, so that it also holds between the workers of pytest-xdist and between users.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYSCTL = Path("/proc/sys")
LOCK = Path(tempfile.gettempdir()) / "gencore-tests-kernel.lock"
_POLL_SECONDS = 0.01


def wait_until(condition: Callable[[], object], what: str, *, timeout: float = 60) -> None:
    """Wait for what gives no event; raises TimeoutError that names ``what``."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            message = f"waited {timeout:.0f} s until {what}"
            raise TimeoutError(message)
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def settings_lock(*, exclusive: bool, timeout: float = 300) -> Iterator[None]:
    """Hold the lock: exclusively to change a setting, shared to rely on one."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH

    def is_taken() -> bool:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        wait_until(is_taken, "no other test changes settings of the kernel", timeout=timeout)
        yield
    finally:
        os.close(descriptor)


def read_setting(name: str) -> str:
    """Return a setting below ``/proc/sys``."""
    return (SYSCTL / name).read_text().rstrip("\n")


@contextlib.contextmanager
def setting(name: str, value: str) -> Iterator[None]:
    """Change a setting; the lock must be held exclusively."""
    before = read_setting(name)
    try:
        (SYSCTL / name).write_text(f"{value}\n")
        yield
    finally:
        (SYSCTL / name).write_text(f"{before}\n")
        assert read_setting(name) == before


@contextlib.contextmanager
def core_pattern(pattern: str) -> Iterator[None]:
    """Let the kernel put cores there while the block runs."""
    with (
        settings_lock(exclusive=True),
        setting("kernel/core_pattern", pattern),
        setting("kernel/core_uses_pid", "0"),
    ):
        yield


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a tmpfs of that size on a new folder."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "tmpfs", folder], check=True, timeout=30
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=30)
