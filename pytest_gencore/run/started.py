"""Which tests a run has started: what the next one can say of a run that ended without a word."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.protocol import LIST_HEAD, LIST_SLOT
from pytest_gencore.run.files import CLOSED, STARTED
from pytest_gencore.run.folder import find_run_folders, is_used, pid_of_run, remove_folder, sweep
from pytest_gencore.run.pinned import create_private, open_private, open_regular, pinned
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.unpatched import posix

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from pathlib import Path

_NONE_BEGAN: Final = b"-"
_WHOLE_CHARACTERS: Final = r'"(?:[^"\\]|\\[^u]|\\u[0-9a-f]{4})*'
"""Of a name in JSON that may be cut in an escape."""


class StartedTests:
    """The list of one process, which the extension writes: csrc/protocol.h describes it."""

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
            self.descriptor = create_private(self.path.name, access=os.O_RDWR, folder=descriptor)
        finally:
            os.close(descriptor)
        self._identity = _identify(self.descriptor)
        with contextlib.suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # others may not see our process
        head = json.dumps({"worker": worker_id, "began": time.time()}).encode()
        try:
            # All of it, without a hole: the extension maps the file, and what comes later has its place.
            data = head.ljust(LIST_HEAD - 1) + _NONE_BEGAN + bytes(2 * LIST_SLOT)
            if os.write(self.descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Remove it, and the folder if nobody else needs it; a child by fork leaves both alone."""
        if os.getpid() != self._owner:
            return
        with contextlib.suppress(OSError):
            if _identify(self.descriptor) == self._identity:  # a test may have closed it
                posix.close(self.descriptor)
        with pinned(self._folder) as folder, contextlib.suppress(OSError):
            if folder is not None:
                posix.unlink(folder / self.path.name)
        with contextlib.suppress(OSError):
            remove_folder(self._folder)


def _identify(descriptor: int) -> tuple[int, int]:
    status = posix.fstat(descriptor)
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
    """Return what the newer slot of a list has; raises OSError and ValueError."""
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(LIST_HEAD + 2 * LIST_SLOT)
    head, newer = json.loads(data[: LIST_HEAD - 1]), data[LIST_HEAD - 1 : LIST_HEAD]
    worker, began = head["worker"], float(head["began"])
    if newer == _NONE_BEGAN:
        return LastTest(worker, None, began)
    slot = data[LIST_HEAD + LIST_SLOT * int(newer) :][:LIST_SLOT]
    when, _, name = slot.partition(b"\n")[0].decode().partition(" ")
    return LastTest(worker, _decode_name(name), int(when) / 1e9)


def _decode_name(text: str) -> str:
    """Return the name of a test, of one that was cut the beginning; raises ValueError."""
    whole = re.match(_WHOLE_CHARACTERS, text)
    if whole is None:
        raise ValueError(text)
    is_cut = whole[0] + '"' != text
    return str(json.loads(whole[0] + '"')) + ("..." if is_cut else "")


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
