"""Room on the disk: how much a capture must leave free, and what finished archives of the run may take."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.giving_up import GiveUpError
from pytest_gencore.collector.texts import format_size
from pytest_gencore.runfolder import BUDGET_MARK, FULL_MARK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_gencore.collector.handover import Handover

_GIB: Final = 1 << 30
_RESERVE_PART: Final = 20
"""A twentieth of the file system is kept free, 1 GiB at least ..."""
_SMALL_PART: Final = 4
"""... but never more than a quarter: else nothing could be written to a small one."""


def reserve_of(size: int) -> int:
    """Return how many bytes of a file system of that size captures leave free."""
    return min(max(_GIB, size // _RESERVE_PART), size // _SMALL_PART)


class Disk:
    """The file system of a file or folder."""

    def __init__(self, place: int | Path, directory: Path) -> None:
        """``place`` is a descriptor or a path in it, ``directory`` what people call it."""
        self._place = place
        self._directory = directory

    def spare(self) -> int | None:
        """Return how many bytes captures may still take, less than 0 if the reserve is touched already.

        None if the file system does not tell.
        """
        try:
            status = os.statvfs(self._place)
        except OSError:
            return None
        size = status.f_blocks * status.f_frsize
        return status.f_bavail * status.f_frsize - reserve_of(size) if size else None

    def check(self) -> None:
        """Raise GiveUpError if the reserve is touched; a file system that does not tell is trusted."""
        spare = self.spare()
        if spare is not None and spare < 0:
            status = os.statvfs(self._place)
            message = (
                f"the disk is nearly full: {self._directory} has "
                f"{format_size(status.f_bavail * status.f_frsize)} free, captures leave "
                f"{format_size(reserve_of(status.f_blocks * status.f_frsize))}"
            )
            raise GiveUpError(message, help_text="free space or choose another --gencore-dir")


def describe_os_error(error: OSError, directory: Path) -> str:
    """Return a line for an error of the operating system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {error.strerror}: {directory}"
    if error.errno == errno.ENOENT and not directory.exists():
        return f"the directory was removed: {directory}"
    return f"{error.strerror or error}: {error.filename or directory}"


class Budget:
    """The bytes that finished archives of the run may have together, by all its collectors."""

    def __init__(self, handover: Handover) -> None:
        """``max_bytes`` of the request; 0: no bound."""
        self._folder = handover.run_folder
        self._own = f"{handover.name}.json"
        self._limit = int(handover.request.get("max_bytes") or 0)

    def check(self, size: int) -> None:
        """Raise GiveUpError if an archive of so many bytes is too much; later captures are refused then."""
        if not self._limit:
            return
        taken = self._taken()
        if taken + size > self._limit:
            with contextlib.suppress(OSError):
                (self._folder / FULL_MARK).touch(mode=0o600)
            message = (
                f"the archives of this run would be larger than {format_size(self._limit)}: "
                f"{format_size(taken)} are finished"
            )
            raise GiveUpError(message, help_text="raise --gencore-max-size")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other collectors from finishing an archive, from the check until the state says so."""
        if not self._limit:
            yield
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._folder / BUDGET_MARK, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _taken(self) -> int:
        """Return the sizes of the finished archives of the run."""
        total = 0
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
                state = json.loads(path.read_bytes())
                if path.name != self._own and state.get("state") == "done":
                    total += int(state.get("size", 0))
        return total
