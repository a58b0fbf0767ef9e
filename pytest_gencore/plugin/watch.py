"""While tests run: crash handlers and deadlines of this process."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.plugin.clock import THEIRS, DeadlineClock, is_debugging, is_traced
from pytest_gencore.plugin.handlers import CrashHandlers
from pytest_gencore.protocol import CaptureResult, Phase

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_gencore.capture import CaptureEngine, CaptureRequest, Standbys, Trigger
    from pytest_gencore.plugin.capturing import Capturer
    from pytest_gencore.plugin.options import Settings

NAME = "gencore-watch"
AWAIT_SECONDS = 300.0
"""How long a process that nobody survives waits for its archive before it dies."""
THEIR_NAME = "pytest-timeout"
LEAD_SECONDS = 0.005
"""Before the timer of pytest-timeout, whose handler unwinds the stack or ends the process."""


class Fired:
    """A capture that a deadline's handler made, or could not make."""

    def __init__(self, request: CaptureRequest, result: CaptureResult, *, in_debugger: bool) -> None:
        self.request = request
        self.result = result
        self.in_debugger = in_debugger

    @property
    def is_ours(self) -> bool:
        """Whether our own timeout has passed, not the one of pytest-timeout."""
        return self.request.deadline_source == "gencore"


class Watch:
    """A plugin of its own, registered only if there is something to watch."""

    def __init__(
        self, config: pytest.Config, capturer: Capturer, engine: CaptureEngine, *, local: bool
    ) -> None:
        self._config = config
        self._capturer = capturer
        self._engine = engine
        self._native: Any = engine.native
        self._local = local
        self._exits = bool(config.getini("gencore_exit_on_timeout"))
        self._handlers = CrashHandlers(engine, config)
        self._on_fail = capturer.settings.on_fail
        self._standbys: dict[tuple[object, ...], Standbys] = {}
        self._no_test = self._prepare_crash(None, capturer.settings)
        self._clock: DeadlineClock | None = None
        self._requests: dict[str, CaptureRequest] = {}
        self._fired: list[Fired] = []
        self._outer_fixtures = 0
        self._item: pytest.Item | None = None
        self._is_test_watched = False
        self._is_traced = is_traced()  # once: whoever attaches later is noticed by the timers' handler
        if self._on_fail:
            self._handlers.watch(self._no_test)

    def close(self) -> None:
        """Leave the process as it was."""
        if self._handlers.is_owner:
            self._native.release_deadlines()
        self._handlers.close()

    def take_fired(self) -> list[Fired]:
        """Return what the deadlines of the running test did since the last call."""
        if self._clock is not None and self._clock.has_fired():
            self._stop_clock()
        if THEIR_NAME in self._requests:
            self._note(THEIR_NAME, self._native.deadline_fired(THEIRS))
        fired, self._fired = self._fired, []
        return fired

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Arm for one test, all its attempts included."""
        settings = self._capturer.settings_for(item)
        if not self._handlers.is_owner or not (settings.on_fail or settings.timeout):
            return (yield)
        self._begin(item, settings)
        try:
            return (yield)
        finally:
            self._end()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Let the clock run: from here on the time is the test's, but for fixtures of a wider scope."""
        if item is self._item:
            self._enter(item, "setup")
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Take notice of the phase."""
        if item is self._item:
            self._enter(item, "call")
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Let the clock run until only fixtures of a wider scope are left to be torn down."""
        if (
            self._clock is not None
            and item.parent is not None
            and (nextitem is None or nextitem.parent is not item.parent)
        ):
            try:
                item.parent.addfinalizer(self._stop_clock)
            except AssertionError:  # its setup never came that far
                self._stop_clock()
        if item is not self._item:
            return (yield)
        self._enter(item, "teardown")
        try:
            return (yield)
        finally:
            self._stop_clock()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Stop the clock for fixtures that are not made for this test alone."""
        if self._clock is None or fixturedef.scope == "function":
            return (yield)
        self._stop_clock()
        self._outer_fixtures += 1
        try:
            return (yield)
        finally:
            self._outer_fixtures -= 1
            if not self._outer_fixtures and self._clock is not None:
                self._clock.start()

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> Generator[None, object, object]:
        """Capture a little before pytest-timeout ends the test or the process."""
        seconds = settings.timeout or 0
        if item is self._item and self._is_test_watched and seconds > 0 and not self._is_debugging():
            standby = self._prepare_deadline(item, self._capturer.settings_for(item), THEIR_NAME, seconds)
            lead = min(LEAD_SECONDS, seconds / 2)
            with contextlib.suppress(OSError):  # no signal is free
                self._native.set_deadline(THEIRS, seconds - lead, standby, False)
        return (yield)

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> Generator[None, object, object]:
        """Cancel ours with theirs."""
        try:
            return (yield)
        finally:
            if item is self._item:
                self._note(THEIR_NAME, self._native.cancel_deadline(THEIRS))

    def pytest_enter_pdb(self) -> None:
        """Let no deadline pass for whoever debugs the test."""
        if self._clock is not None:
            self._stop_clock()
            self._clock.give_up()
        if self._item is not None:
            self._native.cancel_deadline(THEIRS)

    def _begin(self, item: pytest.Item, settings: Settings) -> None:
        self._item = item
        self._fired = []
        self._requests = {}
        self._is_test_watched = settings.on_fail
        if settings.on_fail:
            self._handlers.watch(self._prepare_crash(item, settings))
        if settings.timeout is not None and not self._is_debugging():
            standby = self._prepare_deadline(item, settings, "gencore", settings.timeout)
            self._clock = DeadlineClock(self._engine, settings.timeout, standby, exits=self._exits)

    def _end(self) -> None:
        self._stop_clock()
        self._clock = None
        self._item = None
        if self._requests:
            self._native.cancel_deadline(THEIRS)
        self._native.set_test_phase(Phase.NONE, 0)
        if self._on_fail:
            self._handlers.stand_by(self._no_test)
        elif self._is_test_watched:
            self._handlers.unwatch()
        self._is_test_watched = False

    def _enter(self, item: pytest.Item, phase: str) -> None:
        self._native.set_test_phase(Phase[phase.upper()], getattr(item, "execution_count", 1))
        if self._clock is not None:
            self._clock.start()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._note("gencore", self._clock.stop())

    def _note(self, source: str, fired: tuple[bool, Any] | None) -> None:
        request = self._requests.get(source)
        if fired is None or request is None:
            return
        if source == THEIR_NAME:
            self._native.cancel_deadline(THEIRS)
        self._fired.append(Fired(request, CaptureResult(*fired[1]), in_debugger=not fired[0]))

    def _prepare_crash(self, item: pytest.Item | None, settings: Settings) -> object:
        standbys = self._find_standbys("crash", settings, ends_alone=self._local)
        return standbys.make(None if item is None else item.nodeid)

    def _prepare_deadline(self, item: pytest.Item, settings: Settings, source: Any, seconds: float) -> object:
        ends_alone = self._local and self._exits and source == "gencore"
        standbys = self._find_standbys(
            "timeout", settings, ends_alone=ends_alone, deadline_seconds=seconds, deadline_source=source
        )
        self._requests[source] = standbys.request
        return standbys.make(item.nodeid)

    def _find_standbys(
        self, trigger: Trigger, settings: Settings, *, ends_alone: bool, **details: Any
    ) -> Standbys:
        """Return what prepares the same capture for one test after the other."""
        key = (trigger, settings.method, settings.threads, *details.values())
        if key not in self._standbys:
            request = self._capturer.make_request(trigger, settings, None, **details)
            self._standbys[key] = self._engine.make_standbys(
                request, await_seconds=AWAIT_SECONDS if ends_alone else 0
            )
        return self._standbys[key]

    def _is_debugging(self) -> bool:
        return self._is_traced or is_debugging(self._config)
