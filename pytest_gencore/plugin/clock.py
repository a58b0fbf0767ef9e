"""The clock of one test's own deadline: it runs only while the time is the test's business."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gencore.protocol import Deadline

if TYPE_CHECKING:
    import pytest

    from pytest_gencore.capture import CaptureEngine

OWN, THEIRS = Deadline.GENCORE, Deadline.PYTEST_TIMEOUT
"""Which of the extension's deadlines: ours, and the one of pytest-timeout."""

DEBUGGER_MODULES = ("bdb", "debugpy", "ipdb", "pdb", "pudb", "pydev")
"""Start of the names of modules whose trace function is a debugger's, unlike that of coverage."""

_now = time.clock_gettime
"""Kept: tests patch the clocks of ``time``."""


class DeadlineClock:
    """Arms the extension's timer for what is left, and stops it meanwhile."""

    def __init__(self, engine: CaptureEngine, seconds: float, standby: object, *, exits: bool) -> None:
        """Prepare; the clock does not run yet."""
        self._native: Any = engine.native
        self._left = seconds
        self._standby = standby
        self._exits = exits
        self._started: float | None = None
        self._is_over = False

    def start(self) -> None:
        """Let the clock run, if the deadline has not passed."""
        if self._started is None and not self._is_over:
            self._started = _now(time.CLOCK_MONOTONIC)
            try:
                self._native.set_deadline(OWN, self._left, self._standby, self._exits)
            except OSError:  # no signal is free: a test without a deadline
                self._is_over = True

    def stop(self) -> tuple[bool, Any] | None:
        """Stop the clock; return what the handler did, None if it was not called."""
        if self._started is None:
            return None
        fired: tuple[bool, Any] | None = self._native.cancel_deadline(OWN)
        self._left = max(self._left - (_now(time.CLOCK_MONOTONIC) - self._started), 0.0)
        self._started = None
        self._is_over |= fired is not None
        return fired

    def has_fired(self) -> bool:
        """Return whether the handler was called, and ``stop`` will tell what it did."""
        return self._started is not None and self._native.deadline_fired(OWN) is not None

    def give_up(self) -> None:
        """Let it never run again: somebody debugs."""
        self._is_over = True


def is_traced() -> bool:
    """Return whether a debugger for compiled code runs this process."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in status.splitlines())


def is_debugging(config: pytest.Config) -> bool:
    """Return whether a person may be looking at the test in a debugger of Python."""
    if config.getoption("usepdb", False) or config.getoption("trace", False):
        return True
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID):
        return True
    trace = sys.gettrace()
    module = getattr(trace, "__module__", None) or getattr(type(trace), "__module__", "")
    return trace is not None and str(module).startswith(DEBUGGER_MODULES)
