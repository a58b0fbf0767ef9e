"""Descriptors for the end of the run, which a test that leaks all others cannot take."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from pytest_gencore.unpatched import posix

try:
    import fcntl
    import resource
except ImportError:  # on Windows, where nothing is reserved
    fcntl = None  # type: ignore[assignment]

_COUNT: Final = 5
"""As many as waiting for captures and completing the junit file need at a time."""
_FIRST: Final = 32
"""Above the numbers that programs count on."""
_LIMIT: Final = 64
"""Nothing is reserved of fewer than these."""


def duplicate(descriptor: int) -> int:
    """Return a copy that is not inherited, above the numbers that programs count on; raises OSError.

    Where the limit does not allow that, with the lowest number that is free.
    """
    if fcntl is None:
        return os.dup(descriptor)
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST)
    except OSError:
        return os.dup(descriptor)


class Reserve:
    """Holds descriptors until the session ends."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self._file = (0, 0)
        with contextlib.suppress(OSError):
            if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < _LIMIT:
                return
            file = os.memfd_create("gencore-reserve")
            status = os.fstat(file)
            self._file = (status.st_dev, status.st_ino)
            try:
                while len(self._held) < _COUNT:
                    self._held.append(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _FIRST))
            finally:
                os.close(file)

    def release(self) -> None:
        """Close them; not what has their numbers after a test closed everything."""
        while self._held:
            descriptor = self._held.pop()
            with contextlib.suppress(OSError):
                status = posix.fstat(descriptor)
                if (status.st_dev, status.st_ino) == self._file:
                    posix.close(descriptor)
