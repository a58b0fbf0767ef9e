"""When a wait for another process ends: not after a fixed time, but when nothing has moved for one."""

from __future__ import annotations

import time
from typing import Final

from pytest_gencore.machine.process import state_of

STALL_SECONDS: Final = 60.0
"""How long something that is waited for may stand still."""
_LONGEST_STEP: Final = 2.0
"""Seconds between two looks count at most so much: whoever looks may have been stopped itself."""


class Patience:
    """Ends when what is looked at stays the same for so many seconds."""

    def __init__(self, seconds: float = STALL_SECONDS) -> None:
        self.seconds = seconds
        self._seen: object = None
        self._looked_at = time.monotonic()
        self._stood = 0.0

    def has_ended(self, seen: object) -> bool:
        """Look; call it at least every two seconds."""
        now = time.monotonic()
        step = min(now - self._looked_at, _LONGEST_STEP)
        self._looked_at = now
        if seen != self._seen:
            self._seen = seen
            self._stood = 0.0
        else:
            self._stood += step
        return self._stood >= self.seconds


def activity_of(pid: int) -> object:
    """Return what changes while a process moves: its processor time, and while it waits for a processor.

    None of a process that is not known, 0 or gone. Only its state needs a descriptor.
    """
    if pid <= 0:  # the clock of 0 is our own
        return None
    try:
        used = time.clock_gettime_ns(_processor_clock(pid))
    except (OSError, OverflowError):
        return None
    return (used, time.monotonic_ns()) if state_of(pid) == "R" else used


def describe_standstill(what: str, pid: int, seconds: float) -> str:
    """Return what is known of a process that has not moved for so long."""
    text = f"{what} has not moved for {seconds:.0f} s"
    return f"{text}: it is stopped" if state_of(pid) in ("T", "t") else text


def _processor_clock(pid: int) -> int:
    """Return the clock of all threads of a process, see clock_getcpuclockid(3)."""
    return (~pid << 3) | 2
