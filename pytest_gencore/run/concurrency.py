"""At most two collectors of a run are at work at a time; the others wait, and their snapshots exist.

A slot is a lock on a file in the run's folder, so it ends with its holder however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from pytest_gencore.run.files import COLLECTOR_SLOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SLOTS: Final = 2
QUEUE_SECONDS: Final = 1800
"""After which a collector works without a slot: those that have them may have been stopped."""
_POLL_SECONDS: Final = 0.05


@contextlib.contextmanager
def collector_slot(
    run_folder: Path, on_queued: Callable[[], None], check: Callable[[], None]
) -> Iterator[None]:
    """Work only inside: acquire a slot before, release it after.

    ``on_queued`` is called once if there is none at once; ``check`` is called while waiting, and what it
    raises ends that. Where the files cannot be made there is no queue.
    """
    files = _open_files(run_folder)
    try:
        if files and not _acquire_any(files):
            on_queued()
            deadline = time.monotonic() + QUEUE_SECONDS
            while not _acquire_any(files) and time.monotonic() < deadline:
                check()
                time.sleep(_POLL_SECONDS)
        yield
    finally:
        for file in files:
            os.close(file)


def _open_files(run_folder: Path) -> list[int]:
    files: list[int] = []
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        for number in range(1, SLOTS + 1):
            file = os.open(run_folder / COLLECTOR_SLOT.named(number), flags, 0o600)
            files.append(file)
    except OSError:
        for file in files:
            os.close(file)
        return []
    return files


def _acquire_any(files: list[int]) -> bool:
    for file in files:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False
