"""At most two collectors of a user are at work on a host at a time; the others queue, their snapshots exist.

A turn is a lock on a file, so it ends with its holder however that ends. The files are in a private directory
of the user; where there can be none, there is no queue.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TURNS: Final = 2
QUEUE_SECONDS: Final = 1800
"""After which a collector works without a turn: those that have them may have been stopped."""
_POLL_SECONDS: Final = 0.05


@contextlib.contextmanager
def take_turn(on_queued: Callable[[], None], check: Callable[[], None]) -> Iterator[None]:
    """Work only inside: wait for a turn before, give it back after.

    ``on_queued`` is called once if there is none at once; ``check`` is called while waiting, and what it
    raises ends that.
    """
    files = _open_files()
    try:
        if files and not _take_any(files):
            on_queued()
            deadline = time.monotonic() + QUEUE_SECONDS
            while not _take_any(files) and time.monotonic() < deadline:
                check()
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        for file in files:
            os.close(file)


def turn_directories() -> list[Path]:
    """Return where the files may be: the user's runtime directory, else one in ``/tmp``."""
    uid = os.geteuid()
    return [Path(f"/run/user/{uid}/gencore"), Path(f"/tmp/gencore-{uid}")]  # noqa: S108 - see _is_private


def _open_files() -> list[int]:
    """Open the file of each turn; none if there is no directory that only this user can change."""
    for folder in turn_directories():
        files: list[int] = []
        try:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            if not _is_private(folder):
                continue
            for number in range(TURNS):
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                files.append(os.open(folder / f"turn-{number}", flags, 0o600))
        except OSError:
            for file in files:
                os.close(file)
        else:
            return files
    return []


def _is_private(folder: Path) -> bool:
    """Tell whether it is a directory of ours that nobody else may look into."""
    status = folder.lstat()
    mode = stat.S_IMODE(status.st_mode)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not mode & 0o077


def _take_any(files: list[int]) -> bool:
    for file in files:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False
