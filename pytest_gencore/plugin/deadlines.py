"""The deadlines of one test: our own, whose clock can stand still, and the one of pytest-timeout."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from pytest_gencore.plugin.fired import Fired
from pytest_gencore.protocol import CaptureResult, Deadline
from pytest_gencore.request.model import SLOW_PART

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pytest_gencore.capture import CaptureEngine, CaptureRequest, PreparedCapture
    from pytest_gencore.plugin.settings import Settings

LEAD_SECONDS = 0.005
"""Before the timer of pytest-timeout, whose handler unwinds the stack or ends the process."""

PORTABLE_LEAD_SECONDS = 0.5
"""As much where a thread of Python must come to look at the others, for more than an instant."""

CAPTURE_SECONDS = 5.0
"""How long pytest-timeout is held back at most, if the thread of the test does not get to our handler."""
_POLL_SECONDS = 0.001

_sleep = time.sleep
_now: Callable[[], float] = (
    functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    if hasattr(time, "clock_gettime")
    else functools.partial(time.monotonic)  # on Windows
)
"""Kept: tests patch the functions of ``time``."""


def tells_slow(config: pytest.Config, settings: Settings) -> bool:
    """Return whether tests are told of that have used up a part of their time."""
    if settings.slow_notice != "auto":
        return settings.slow_notice == "on"
    return bool(config.getoption("verbose", 0) >= 0)


def set_slow(native: Any, seconds: float, standby: object) -> None:
    """Have a test told of in so many seconds, if a signal is free for that."""
    with contextlib.suppress(OSError):
        native.set_deadline(Deadline.SLOW, seconds, standby, False)


class DeadlineClock:
    """Arms the extension's timer for what is left, and stops it meanwhile."""

    def __init__(self, native: Any, seconds: float, prepared: PreparedCapture, *, exits: bool) -> None:
        """Prepare; the clock does not run yet."""
        self._native = native
        self._left = seconds
        self._standby = prepared.standby
        self._slow = prepared.slow
        self._left_when_slow = seconds * (1 - SLOW_PART)
        self._exits = exits
        self._seconds = seconds
        self._started: float | None = None
        self._is_over = False

    def start(self) -> None:
        """Let the clock run, if the deadline has not passed."""
        if self._started is None and not self._is_over:
            self._started = _now()
            try:
                self._native.set_deadline(Deadline.GENCORE, self._left, self._standby, self._exits)
            except OSError:  # no signal is free: a test without a deadline
                self._is_over = True
                return
            if self._slow is not None and self._left > self._left_when_slow:
                set_slow(self._native, self._left - self._left_when_slow, self._slow)

    def stop(self) -> tuple[bool, Any] | None:
        """Stop the clock; return what the handler did, None if it was not called."""
        if self._started is None:
            return None
        fired: tuple[bool, Any] | None = self._native.cancel_deadline(Deadline.GENCORE)
        if self._slow is not None:
            self._native.cancel_deadline(Deadline.SLOW)
        self._left = max(self._left - (_now() - self._started), 0.0)
        self._started = None
        self._is_over |= fired is not None
        return fired

    def has_fired(self) -> bool:
        """Return whether the handler was called, and ``stop`` will tell what it did."""
        return self._started is not None and self._native.deadline_fired(Deadline.GENCORE) is not None

    def give_way(self, seconds: float) -> bool:
        """Leave the notice to a deadline that is this far away; return whether it is the earlier one."""
        if seconds < self._seconds:
            self._slow = None
        return self._slow is None

    def give_up(self) -> None:
        """Let it never run again: somebody debugs."""
        self._is_over = True


class Deadlines:
    """Both deadlines of the running test, and what their handlers did."""

    def __init__(self, engine: CaptureEngine) -> None:
        self._native: Any = engine.native
        self._is_portable = engine.is_portable
        self.clock: DeadlineClock | None = None
        """Of our own deadline, None for a test without one."""
        self._make_clock: Callable[[], DeadlineClock] | None = None
        self._wide_clock: DeadlineClock | None = None
        """Of the fixture of a wider scope that is set up or torn down; the test's own stands still then."""
        self._own_request: CaptureRequest | None = None
        self._other_request: CaptureRequest | None = None
        self._is_other_set = False
        """Whether the timer before that of pytest-timeout runs, or has run out and nobody took notice yet."""
        self._is_slow_set = False
        """Whether the notice before pytest-timeout's deadline is."""
        self._fired: list[Fired] = []
        self.is_set = False
        """Whether the running test has a deadline: else nothing has fired, and nothing is to be cleared."""

    def has_fired(self, phase: str) -> bool:
        """Return whether there is something to take; ``phase`` is the one that is reported.

        That of the teardown is the end of the test's time.
        """
        if self.clock is not None:
            if phase == "teardown":
                self.stop()
            elif any(clock.has_fired() for clock in self._clocks()):
                return True
        if self._fired:
            return True
        return (
            self._other_request is not None
            and self._native.deadline_fired(Deadline.PYTEST_TIMEOUT) is not None
        )

    def set_own(self, seconds: float, prepared: PreparedCapture, *, exits: bool) -> None:
        """Set our own deadline; its clock does not run yet."""
        self.is_set = True
        self._own_request = prepared.request
        self._make_clock = lambda: DeadlineClock(self._native, seconds, prepared, exits=exits)
        self.clock = self._make_clock()

    def set_pytest_timeout(self, seconds: float, prepared: PreparedCapture) -> None:
        """Capture a little before pytest-timeout ends the test or the process."""
        self.is_set = True
        self._other_request = prepared.request
        lead = min(PORTABLE_LEAD_SECONDS if self._is_portable else LEAD_SECONDS, seconds / 2)
        try:
            self._native.set_deadline(Deadline.PYTEST_TIMEOUT, seconds - lead, prepared.standby, False)
        except OSError:  # no signal is free
            return
        self._is_other_set = True
        if prepared.slow is not None and (self.clock is None or self.clock.give_way(seconds)):
            set_slow(self._native, seconds * SLOW_PART, prepared.slow)
            self._is_slow_set = True

    def hold_pytest_timeout(self, item: pytest.Item) -> None:
        """Let the thread with which pytest-timeout ends the process wait until our handler has captured.

        A process that crashes is left to that.

        The order of two timers is not the order in which a busy machine runs their threads.
        """
        if not self._is_other_set:
            return
        if self._is_portable:
            self._hold_signal()
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer) and any(argument is item for argument in thread.args):
                thread.function = self._after_capture(thread.function)

    def _hold_signal(self) -> None:
        """Let the handler with which pytest-timeout ends the test wait likewise: our thread may come late."""
        handler = signal.getsignal(signal.SIGALRM) if hasattr(signal, "SIGALRM") else None
        if getattr(handler, "__module__", "") == "pytest_timeout" and callable(handler):
            signal.signal(signal.SIGALRM, self._after_capture(handler))

    def cancel_pytest_timeout(self) -> None:
        """Cancel ours with theirs."""
        if self._other_request is not None:
            self._note_other(self._cancel_other())

    def start(self) -> None:
        """Let the clock of the test run."""
        if self.clock is not None:
            if self._wide_clock is not None:
                self.stop()
            self.clock.start()

    def start_wide(self) -> None:
        """Let the test's clock stand still, and one run for a fixture of a wider scope, as long."""
        if self._make_clock is not None:
            self.stop()
            self._wide_clock = self._make_clock()
            self._wide_clock.start()

    def stop(self) -> None:
        """Let the clocks stand still."""
        for clock in self._clocks():
            fired = clock.stop()
            if fired is not None and self._own_request is not None:
                self._note(self._own_request, fired)
        self._wide_clock = None

    def give_up(self) -> None:
        """Let no deadline of this test pass any more: somebody debugs it."""
        self.stop()
        self._make_clock = None
        if self.clock is not None:
            self.clock.give_up()
        self._cancel_other()

    def take_fired(self) -> list[Fired]:
        """Return what the deadlines of the running test did since the last call."""
        if any(clock.has_fired() for clock in self._clocks()):
            self.stop()
        if self._other_request is not None:
            self._note_other(self._native.deadline_fired(Deadline.PYTEST_TIMEOUT))
        fired, self._fired = self._fired, []
        return fired

    def clear(self) -> None:
        """Take back what the test has set; what has fired and was not taken is forgotten."""
        self.stop()
        self.is_set = False
        self.clock = self._own_request = self._make_clock = None
        if self._other_request is not None:
            self._cancel_other()
            self._other_request = None
        self._fired = []

    def _clocks(self) -> list[DeadlineClock]:
        return [clock for clock in (self.clock, self._wide_clock) if clock is not None]

    def _note_other(self, fired: tuple[bool, Any] | None) -> None:
        if fired is not None and self._other_request is not None:
            self._cancel_other()
            self._note(self._other_request, fired)

    def _cancel_other(self) -> tuple[bool, Any] | None:
        fired: tuple[bool, Any] | None = self._native.cancel_deadline(Deadline.PYTEST_TIMEOUT)
        self._is_other_set = False
        if self._is_slow_set:
            self._is_slow_set = False
            self._native.cancel_deadline(Deadline.SLOW)
        return fired

    def _after_capture(self, function: Callable[..., object]) -> Callable[..., object]:
        def wait_and_call(*args: Any, **kwargs: Any) -> object:
            __tracebackhide__ = True  # in the traceback of a test, where a signal handler calls this
            until = _now() + CAPTURE_SECONDS
            while (
                self._is_other_set
                and self._native.deadline_fired(Deadline.PYTEST_TIMEOUT) is None
                and _now() < until
            ):
                _sleep(_POLL_SECONDS)
            while self._native.is_crashing():  # and this must not end it first, with another status
                _sleep(_POLL_SECONDS)
            return function(*args, **kwargs)

        return wait_and_call

    def _note(self, request: CaptureRequest, fired: tuple[bool, Any]) -> None:
        self._fired.append(Fired(request, CaptureResult(*fired[1]), in_debugger=not fired[0]))
