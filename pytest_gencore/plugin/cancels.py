"""Signals with which a run is cancelled: SIGTERM, SIGHUP and SIGINT."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_gencore.capture import PreparedCapture

_get_handler = signal.getsignal
"""Kept: tests patch the functions of ``signal``."""
_modules = sys.modules
_usual_handler = signal.default_int_handler
PASSED_ON = getattr(signal, "SIGRTMIN", 0) + 1
"""With it a controller passes a cancel on to its workers."""


class CancelHandlers:
    """Handlers that capture before the signal does what it would have done; others' stay the first."""

    def __init__(self, native: Any) -> None:
        """Change no handler yet."""
        self._native = native
        self._is_armed = False
        self._runner: Any = None
        """``asyncio.Runner``, while its handler of SIGINT is ours."""

    def arm(self, end: PreparedCapture, interrupt: PreparedCapture, *, from_controller: bool) -> None:
        """Capture from here on; ``end``: at SIGTERM and SIGHUP, ``interrupt``: at SIGINT.

        ``from_controller``: the latter also when a controller passes a cancel on.
        """
        if from_controller:
            with contextlib.suppress(OSError):  # somebody uses the signal: the controller sees no handler
                self._native.accept_cancels(PASSED_ON)
        self._native.set_cancel_standbys(end.standby, interrupt.standby)
        self._is_armed = True
        if self._native.watch_cancels(False):
            self.restore_interrupt()
        self.wrap_runner()

    def restore_interrupt(self) -> None:
        """Put our handler of SIGINT before Python's usual one."""
        if self._is_armed and _get_handler(2) is _usual_handler:
            self._native.watch_cancels(True)

    def wrap_runner(self) -> None:
        """Capture before asyncio cancels the task that a test waits for: afterwards no task is left.

        Called for each test, one of which is the first that imports asyncio. Python 3.11 and later put a
        handler of their own in place while tasks run; a private method.
        """
        if self._runner is not None or "asyncio.runners" not in _modules or not self._is_armed:
            return
        runner: Any = getattr(_modules["asyncio.runners"], "Runner", None)
        handle = getattr(runner, "_on_sigint", None)
        if handle is None:
            return
        capture = self._native.capture_interrupt

        @functools.wraps(handle)
        def capture_and_handle(*args: Any, **kwargs: Any) -> Any:
            capture()
            return handle(*args, **kwargs)

        self._runner = runner
        self._runner._on_sigint = capture_and_handle

    def close(self) -> None:
        """Take the handlers out."""
        if self._is_armed:
            self._is_armed = False
            if self._runner is not None:
                self._runner._on_sigint = self._runner._on_sigint.__wrapped__
                self._runner = None
            self._native.unwatch_cancels()
            self._native.set_cancel_standbys(None, None)


class CancelledWorkers:
    """The processes of the workers that a controller passes a cancel on to."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._descriptors: dict[str, int] = {}

    def add(self, name: str, pid: int) -> None:
        """Tell this worker, too, if it has a handler: without one the signal would kill it."""
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            if handles(pid, PASSED_ON):
                self._descriptors[name] = descriptor
                self._publish()
            else:
                os.close(descriptor)

    def remove(self, name: str) -> None:
        """Forget one that has ended."""
        descriptor = self._descriptors.pop(name, None)
        if descriptor is not None:
            self._publish()
            os.close(descriptor)

    def close(self) -> None:
        """Forget all."""
        for name in list(self._descriptors):
            self.remove(name)

    def _publish(self) -> None:
        self._native.set_cancel_workers(PASSED_ON, list(self._descriptors.values()))


def handles(pid: int, number: int) -> bool:
    """Return whether a process has a handler for a signal: ``SigCgt`` of proc(5). Raises OSError."""
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
