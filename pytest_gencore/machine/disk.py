"""Room on a disk: how much captures leave free."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.errors import NoSpaceError
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from pathlib import Path

_GIB: Final = 1 << 30
_RESERVE_PART: Final = 20
"""A twentieth of the file system is kept free, 1 GiB at least ..."""
_SMALL_PART: Final = 4
"""... but never more than a quarter: else nothing could be written to a small one."""


def reserve_of(size: int) -> int:
    """Return how many bytes of a file system of ``size`` bytes captures leave free."""
    return min(max(_GIB, size // _RESERVE_PART), size // _SMALL_PART)


class Space(NamedTuple):
    """What a file system has and keeps, in bytes."""

    free: int
    """For this user."""
    reserve: int

    @property
    def spare(self) -> int:
        """How much captures may still take; less than 0 if the reserve is touched."""
        return self.free - self.reserve


class Disk:
    """The file system of a file or folder."""

    def __init__(self, place: int | Path, directory: Path) -> None:
        """``place`` is a descriptor, which stays the caller's, or a path; messages name ``directory``."""
        self._place = place
        self._directory = directory

    def measure(self) -> Space | None:
        """Return what there is; None if the file system does not tell."""
        try:
            status = os.statvfs(self._place)
        except (AttributeError, OSError):  # Windows has no statvfs
            return None
        size = status.f_blocks * status.f_frsize
        return Space(status.f_bavail * status.f_frsize, reserve_of(size)) if size else None

    def check(self) -> None:
        """Raise NoSpaceError if the reserve is touched; a file system that does not tell is trusted."""
        space = self.measure()
        if space is not None and space.spare < 0:
            message = (
                f"the disk is nearly full: {self._directory} has {format_size(space.free)} free, "
                f"captures keep {format_size(space.reserve)} free"
            )
            raise NoSpaceError(message, help_text="free space or choose another --gencore-dir")
