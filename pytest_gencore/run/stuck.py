"""Collectors that do not end by themselves, and what is known of those that ended too early."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from pytest_gencore.machine.patience import Patience, activity_of, describe_standstill
from pytest_gencore.run.collectors import signal_collector
from pytest_gencore.run.folder import is_locked
from pytest_gencore.run.pinned import read_regular

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.run.state import CaptureState

_KILL_SECONDS: Final = 2.0
_KILL_TICK_SECONDS: Final = 0.01
_LOG_LIMIT: Final = 2000


class StuckCollectors:
    """Watches collectors at work, and ends those that have not moved for too long."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        """Why one was ended, by the name of its capture."""
        self._patience: dict[str, Patience] = {}

    def end(self, state_file: Path, state: CaptureState) -> bool:
        """Look at a collector that lives; tell whether it was ended because it is stuck."""
        name = state_file.stem
        if name in self.reasons:
            return True
        pid = state.pid
        patience = self._patience.setdefault(name, Patience())
        if not patience.has_ended((pid, activity_of(pid), state.bytes_done)):
            return False
        self.reasons[name] = describe_standstill("the collector", pid, patience.seconds)
        signal_collector(state_file, pid, signal.SIGKILL)
        deadline = time.monotonic() + _KILL_SECONDS
        while is_locked(state_file) and time.monotonic() < deadline:
            time.sleep(_KILL_TICK_SECONDS)
        return True


def why_it_died(log: Path, directory: Path) -> str:
    """Return what is known of a collector that ended before its capture did."""
    try:
        lines = read_regular(log, _LOG_LIMIT).decode(errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    except OSError as error:
        return f"the collector died, and its log cannot be read: {error.strerror}: {log.name}"
    if lines:
        return f"the collector died; the end of its log: {lines[-1]}"
    with contextlib.suppress(OSError):
        if not os.statvfs(directory).f_bavail:
            return f"the collector ended without a word, and the disk is full: {directory}"
    return "the collector ended without a word, as after SIGKILL"
