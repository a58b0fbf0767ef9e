"""At most two collectors of a run are at work at a time; the others wait, and their snapshots exist.

A slot is a lock on a file in the run's folder, so it ends with its holder however that ends. One that has not
moved for too long, because it is stopped or its disk hangs, loses its place: others make the file anew.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Final

if sys.platform != "win32":
    import fcntl

from pytest_gencore.machine.patience import Patience, activity_of
from pytest_gencore.run.files import COLLECTOR_SLOT, RunFile
from pytest_gencore.run.folder import find_holder
from pytest_gencore.unpatched import NO_LINK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SLOTS: Final = 2
_POLL_SECONDS: Final = 0.05
_LONGEST_POLL_SECONDS: Final = 1.0
_POLLS: Final = 20
"""A queued collector looks as often in all that it has waited: hundreds may wait, and need the processors."""
_LOOK_SECONDS: Final = 1.0
_NO_FILE: Final = -1
_FLAGS: Final = os.O_RDWR | os.O_CREAT | NO_LINK


@contextlib.contextmanager
def collector_slot(
    run_folder: Path,
    on_queued: Callable[[], None],
    check: Callable[[], None],
    *,
    kind: RunFile = COLLECTOR_SLOT,
) -> Iterator[None]:
    """Work only inside: acquire a slot before, release it after.

    ``on_queued`` is called once if there is none at once; ``check`` is called while waiting, and what it
    raises ends that. Where the files cannot be made there is no queue. ``kind``: whose slots they are.
    """
    paths = [run_folder / kind.named(number) for number in range(1, SLOTS + 1)]
    file = _acquire_any(paths)
    if file is None:
        on_queued()
        holders = [_Holder(path) for path in paths]
        began = time.monotonic()
        while file is None:
            check()
            waited = time.monotonic() - began
            time.sleep(min(max(waited / _POLLS, _POLL_SECONDS), _LONGEST_POLL_SECONDS))
            for holder in holders:
                holder.remove_if_stuck()
            file = _acquire_any(paths)
    try:
        yield
    finally:
        if file != _NO_FILE:
            os.close(file)


def lock_patiently(descriptor: int, path: Path) -> bool:
    """Lock a file that others hold for moments; False if its holder has not moved for too long."""
    holder = _Holder(path)
    while not try_to_lock(descriptor):
        if holder.is_stuck():
            return False
        time.sleep(_POLL_SECONDS)
    return True


class _Holder:
    """Whoever has a file locked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._patience = Patience()
        self._looked_at = time.monotonic()

    def is_stuck(self) -> bool:
        """Whether it has not moved for too long; to be called often."""
        if time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return False
        self._looked_at = time.monotonic()
        pid = find_holder(self._path)
        return self._patience.has_ended((pid, activity_of(pid)))

    def remove_if_stuck(self) -> None:
        """Remove the file that a stuck one has locked."""
        if self.is_stuck():
            with contextlib.suppress(OSError):
                self._path.unlink()
            self._patience = Patience()


def _acquire_any(paths: list[Path]) -> int | None:
    """Return the locked file of a free slot, None if there is none, ``_NO_FILE`` where none can be made."""
    for path in paths:
        try:
            file = os.open(path, _FLAGS, 0o600)
        except OSError:
            return _NO_FILE
        try:
            if try_to_lock(file) and _is_still(path, file):
                return file
        except OSError:  # a file system without locks
            os.close(file)
            return _NO_FILE
        os.close(file)
    return None


def try_to_lock(descriptor: int) -> bool:
    """Lock a file if nobody else has; tell whether that was so. Raises OSError where there are no locks."""
    if sys.platform == "win32":
        return True  # there only one process of a run comes to that
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, file: int) -> bool:
    """Whether nobody has removed the file, as of a stuck holder, since it was opened."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except FileNotFoundError:
        return False
