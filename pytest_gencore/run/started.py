"""Which tests a run has started: what the next one can say of a run that ended without a word."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.run.files import CLOSED, STARTED
from pytest_gencore.run.folder import find_run_folders, is_used, pid_of_run, remove_folder, sweep
from pytest_gencore.run.pinned import create_private, open_private, open_regular, pinned
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from pathlib import Path

_END_SIZE: Final = 65536
"""Bytes at the end of a list that are read: the name of a test may be long."""
_HEAD_SIZE: Final = 4096


class StartedTests:
    """The list of one process, which the extension writes: a line for each test that begins."""

    def __init__(self, folder: Path, worker_id: str | None) -> None:
        """Make it in the run's ``folder``, which is made if need be; raises OSError."""
        self.path = folder / STARTED.named(os.getpid())
        self._folder = folder
        self._owner = os.getpid()
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
        descriptor = open_private(folder)
        try:
            self.descriptor = create_private(self.path.name, os.O_APPEND, folder=descriptor)
        finally:
            os.close(descriptor)
        self._identity = _identify(self.descriptor)
        with contextlib.suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # others may not see our process
            os.write(
                self.descriptor, json.dumps({"worker": worker_id, "began": time.time()}).encode() + b"\n"
            )

    def close(self) -> None:
        """Remove it, and the folder if nobody else needs it; a child by fork leaves both alone."""
        if os.getpid() != self._owner:
            return
        with contextlib.suppress(OSError):
            if _identify(self.descriptor) == self._identity:  # a test may have closed it
                os.close(self.descriptor)
        with pinned(self._folder) as folder, contextlib.suppress(OSError):
            if folder is not None:
                (folder / self.path.name).unlink()
        with contextlib.suppress(OSError):
            remove_folder(self._folder)


def _identify(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


class LastTest(NamedTuple):
    """Where a process of a run was when it ended without a word."""

    worker_id: str | None
    nodeid: str | None
    """None: it had started none."""
    when: float
    """When that began, or the process; seconds since 1970."""

    def __str__(self) -> str:
        worker = f"worker {self.worker_id}, " if self.worker_id else ""
        when = _format_time(self.when)
        if not self.nodeid:
            return f"{worker}begun at {when}, had begun no test"
        return f"{worker}the last test that began: {escape_unprintable(self.nodeid)}, at {when}"


class LostRun(NamedTuple):
    """A run that ended without a word: it was killed, or its machine was."""

    folder: Path
    pid: int
    tests: list[LastTest]

    def __str__(self) -> str:
        last = "; ".join(map(str, self.tests))
        return f"an earlier run (process {self.pid}) ended without a word; {last}"

    def remove(self) -> None:
        """Remove what it has left."""
        with pinned(self.folder) as folder:
            if folder is None:
                return
            with contextlib.suppress(OSError):
                (folder / CLOSED.named()).touch(mode=0o600)
            sweep(folder, self.folder)


def find_lost_runs(directory: Path) -> list[LostRun]:
    """Return them as far as they have left a list in the artifact directory; none if it cannot be read."""
    found: list[LostRun] = []
    try:
        folders = find_run_folders(directory)
    except OSError:
        return found
    for place in folders:
        with pinned(place) as folder, contextlib.suppress(OSError, ValueError):
            if folder is None or is_used(folder, place.name) or (folder / CLOSED.named()).exists():
                continue
            tests = [_read_last(path) for path in sorted(folder.glob(STARTED.glob))]
            if tests:
                found.append(LostRun(place, pid_of_run(place.name), tests))
    return found


def _read_last(path: Path) -> LastTest:
    """Return what a list ends with; raises OSError and ValueError."""
    with os.fdopen(open_regular(path), "rb") as file:
        head = json.loads(file.readline(_HEAD_SIZE))
        file.seek(max(file.tell(), os.fstat(file.fileno()).st_size - _END_SIZE))
        lines = [line for line in file.read(_END_SIZE).split(b"\n") if line]
        changed = os.fstat(file.fileno()).st_mtime
    worker, began = head["worker"], float(head["began"])
    if not lines:
        return LastTest(worker, None, began)
    return LastTest(worker, str(json.loads(lines[-1])), changed)


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
