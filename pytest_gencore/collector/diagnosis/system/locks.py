"""Locks of files and who holds them: ``/proc/locks``, and the same lines in ``/proc/PID/fdinfo``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from pytest_gencore.collector.diagnosis.system.holders import name_of
from pytest_gencore.texts import escape_unprintable

_SIZE_LIMIT: Final = 1 << 20
_LOCK = re.compile(
    r"\d+: +(-> +)?(FLOCK|POSIX|OFDLCK|LEASE) +\w+ +(READ|WRITE) +(-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) "
)
_MOUNT = re.compile(r"^(\d+) \d+ (\d+):(\d+) ", re.MULTILINE)
FileId = tuple[int, int, int]
"""Major and minor number of the file system's device, and inode: what names a file in ``/proc/locks``."""


class FileLock(NamedTuple):
    """One lock that somebody holds."""

    kind: str
    """``FLOCK``, ``POSIX``, ``OFDLCK`` or ``LEASE``."""
    mode: str
    """``READ`` or ``WRITE``."""
    pid: int
    """Who took it; -1 for an OFDLCK, which belongs to no process."""
    file: FileId
    is_own: bool = False
    """Whether the captured process took it."""
    holder: str = ""
    """The name of the process that took it, if that still runs."""

    def describe(self) -> str:
        """Return a phrase such as ``locked (FLOCK) by process 77``."""
        if self.is_own:
            return f"locked ({self.kind}) by this process"
        if self.pid < 0:
            return f"locked ({self.kind})"
        name = f" ({escape_unprintable(self.holder)})" if self.holder else ""
        return f"locked ({self.kind}) by process {self.pid}{name}"

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "kind": self.kind,
            "mode": self.mode,
            "pid": self.pid,
            "name": escape_unprintable(self.holder),
            "is_own": self.is_own,
        }


def parse_locks(text: str, captured: int) -> list[FileLock]:
    """Return the locks that are held; lines of those that wait for one are left out."""
    found = []
    for match in _LOCK.finditer(text):
        waits, kind, mode, pid, major, minor, inode = match.groups()
        if not waits:
            file = (int(major, 16), int(minor, 16), int(inode))
            found.append(FileLock(kind, mode, int(pid), file, is_own=int(pid) == captured))
    return found


def read_locks(captured: int) -> dict[FileId, list[FileLock]]:
    """Return all locks of this machine that ``/proc/locks`` shows here, by file."""
    try:
        with Path("/proc/locks").open("rb", buffering=0) as file:
            text = b"".join(iter(lambda: file.read(65536), b""))[:_SIZE_LIMIT].decode()
    except OSError:
        return {}
    locks: dict[FileId, list[FileLock]] = {}
    for lock in parse_locks(text, captured):
        locks.setdefault(lock.file, []).append(lock)
    return locks


def with_holder(lock: FileLock) -> FileLock:
    """Add the name of the process that took it."""
    if lock.is_own or lock.pid <= 0:
        return lock
    return lock._replace(holder=name_of(lock.pid))


def read_mounts() -> dict[int, tuple[int, int]]:
    """Return the device of each mounted file system, by its ``mnt_id``: ``st_dev`` may be another one."""
    try:
        text = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()[:_SIZE_LIMIT])
    except OSError:
        return {}
    return {int(number): (int(major), int(minor)) for number, major, minor in _MOUNT.findall(text)}
