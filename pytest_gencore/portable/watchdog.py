"""Deadlines on a thread of ours: they pass if the GIL is free, or handed over, as Python code does it."""

from __future__ import annotations

import _thread
import os
import threading
from typing import TYPE_CHECKING, Any

from pytest_gencore.portable.kept import now

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_getpid, _start, _Condition = os.getpid, _thread.start_new_thread, threading.Condition
"""Kept: tests patch these modules. A thread that ``threading`` does not know is in no list of tests."""


_ACTION_SECONDS = 10.0
"""How long a passing deadline is waited for."""


class _Deadline:
    __slots__ = ("at", "fired", "is_acting", "seconds", "what")

    def __init__(self, seconds: float, what: Any) -> None:
        self.seconds = seconds
        self.what = what
        self.at: float | None = now() + seconds
        self.fired: Any = None
        self.is_acting = False


class Watchdog:
    """Calls ``action`` on its thread when a deadline has passed: with what was set, and the seconds since."""

    def __init__(self, action: Callable[[Any, float], Any]) -> None:
        self._action = action
        self._begin()
        if hasattr(os, "register_at_fork"):  # the thread may hold the lock just then, and is not in the child
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._deadlines: dict[int, _Deadline] = {}
        self._changed = _Condition()  # reentrant: a signal handler may ask what has passed
        self._process = 0
        """In which the thread runs; 0: in none."""

    def set(self, which: int, seconds: float, what: Any) -> None:
        """Let a deadline pass in so many seconds."""
        with self._changed:
            self._deadlines[which] = _Deadline(seconds, what)
            if self._process != _getpid():
                self._process = _getpid()
                _start(self._run, ())
            else:
                self._changed.notify()

    def cancel(self, which: int) -> Any:
        """Forget a deadline; return what its action returned, None if it was not called."""
        with self._changed:
            found = self._deadlines.pop(which, None)
            return None if found is None else self._await(found)

    def fired(self, which: int) -> Any:
        """Return what the action of a deadline has returned, None if it was not called."""
        with self._changed:
            found = self._deadlines.get(which)
            return None if found is None else self._await(found)

    def _await(self, found: _Deadline) -> Any:
        """Return what came of it; the action of one that is passing is waited for."""
        self._changed.wait_for(lambda: not found.is_acting, _ACTION_SECONDS)
        return found.fired

    def restart(self, which: int) -> bool:
        """Let a deadline that runs begin anew; tell whether it has passed, and must be set again."""
        found = self._deadlines.get(which)
        if found is None:
            return False
        if found.at is not None:
            found.at = now() + found.seconds  # the thread looks again before it acts
            return False
        return found.fired is not None

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._deadlines.clear()
            self._process = 0
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._process:
                    return
                waiting = [one for one in self._deadlines.values() if one.at is not None]
                first = min(waiting, key=lambda one: one.at or 0.0, default=None)
                left = None if first is None or first.at is None else first.at - now()
                if first is None or left is None or left > 0:
                    self._changed.wait(left)
                    continue
                first.at = None
                first.is_acting = True
            fired = self._action(first.what, -left)
            with self._changed:
                first.fired, first.is_acting = fired, False
                self._changed.notify_all()


def is_watchdog(frame: FrameType) -> bool:
    """Whether a thread is one of ours, by its innermost frame."""
    outermost: FrameType = frame
    while outermost.f_back is not None:
        outermost = outermost.f_back
    return outermost.f_code is Watchdog._run.__code__
