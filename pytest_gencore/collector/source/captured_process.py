"""The captured process from outside: whether it still lives."""

from __future__ import annotations

import contextlib
import os

from pytest_gencore.machine.process import has_ended, start_ticks


class CapturedProcess:
    """Watches a process by a descriptor, so that a later process with the same id is not taken for it."""

    def __init__(self, pid: int, snapshot_pid: int) -> None:
        """Find the process: the one that began before its snapshot did."""
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            self._descriptor = os.pidfd_open(pid)
        try:
            is_another = start_ticks(pid) > start_ticks(snapshot_pid)
        except (OSError, ValueError):
            is_another = False  # it has just ended, and the descriptor tells
        if is_another:
            self.close()

    def has_ended(self, timeout: float = 0) -> bool:
        """Wait at most so many seconds for its end; tell whether it has ended."""
        return self._descriptor is None or has_ended(self._descriptor, timeout)

    def close(self) -> None:
        """Watch no longer."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
