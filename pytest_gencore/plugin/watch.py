"""While tests run: crash handlers and deadlines of this process.

A wrapper around a hook that runs a test would stand in the traceback of each failure that passes through it.
So the hooks here are plain: they run before the others and have returned when a test fails.
"""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.plugin import places
from pytest_gencore.plugin.cancels import CancelHandlers
from pytest_gencore.plugin.deadlines import Deadlines, tells_slow
from pytest_gencore.plugin.debuggers import is_debugging, is_debugging_asked_for, is_traced
from pytest_gencore.plugin.handlers import CrashHandlers
from pytest_gencore.plugin.prepared import PreparedCaptures
from pytest_gencore.plugin.sessiondeadline import SessionDeadline
from pytest_gencore.protocol import Phase
from pytest_gencore.request.context import encode_place

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pytest_gencore.capture import CaptureEngine, CaptureRequest
    from pytest_gencore.plugin.settings import Settings

NAME = "gencore-watch"
_SETUP, _CALL, _TEARDOWN = Phase.SETUP, Phase.CALL, Phase.TEARDOWN
"""Kept: each test needs them, and to find members of an enumeration takes long."""


class Watch:
    """A plugin of its own, registered only if there is something to watch."""

    def __init__(
        self,
        config: pytest.Config,
        engine: CaptureEngine,
        settings: Settings,
        *,
        settings_for: Callable[[pytest.Item], Settings],
        make_request: Callable[..., CaptureRequest],
        local: bool,
        place: str,
    ) -> None:
        """Install the crash handlers, if the ``settings`` of the run ask for that.

        ``place`` is where the process is until the first collector, as ``encode_place`` says it.
        """
        self._settings = settings
        self._settings_for = settings_for
        self._native: Any = engine.native
        self._set_test, self._begin_test = engine.native.set_test, engine.native.begin_test
        self._set_phase = engine.native.set_test_phase
        self._local = local
        self._is_controller = place == places.CONTROLLER
        self._exits = bool(config.getini("gencore_exit_on_timeout"))
        self._handlers = CrashHandlers(engine, config, asks_children=settings.children != "none")
        self._on_fail = settings.on_fail
        self.prepared = PreparedCaptures(
            engine, make_request, ends_alone=local, exits=self._exits, tells_slow=tells_slow(config, settings)
        )
        self._no_test = self.prepared.crash(settings).standby
        self.deadlines = Deadlines(engine)
        self._running: pytest.Item | None = None
        self._nodeid: str | None = None
        self._item: pytest.Item | None = None
        """The running test, if it is watched; None if nothing of it asks for captures."""
        self._attempt = 1
        self._is_test_armed = False
        self._has_own_fixtures = False
        """Whether the setup of the running test has come to fixtures that are made for it alone."""
        self._wide = places.WideFixture(self._native)
        self._root = config.rootpath
        # Once: whoever attaches later is noticed by the timers' handler.
        self._is_debugged = is_traced() or is_debugging_asked_for(config)
        self._enter_place(place)
        seconds = settings.session_timeout or 0
        is_wanted = seconds > 0 and self._handlers.is_owner and not self._is_debugging()
        prepared = self.prepared.timeout(settings, seconds, "gencore-session") if is_wanted else None
        self.session = SessionDeadline(self._native, seconds, prepared, exits=self._exits, local=local)
        self.session.start()
        self._cancels = CancelHandlers(self._native)
        if self._on_fail:
            self._handlers.install(self._no_test)
            self._arm_cancels()

    @property
    def is_owner(self) -> bool:
        """Whether the process is ours: no session around this one watches it."""
        return self._handlers.is_owner

    def close(self) -> None:
        """Leave the process as it was."""
        if self._handlers.is_owner:
            self._native.release_deadlines()
        self._cancels.close()
        self._handlers.close()

    def outlive_session(self) -> bool:
        """Stay until the process is gone: handlers, and the deadline of the session; return whether it does.

        A worker waits for its controller then, however long that takes.
        """
        if not self._handlers.is_owner:
            return False
        self._end()
        self._native.set_last_test(places.AFTER_SESSION)
        atexit.register(self._native.set_last_test, places.IN_ATEXIT)  # the first of all: they run backwards
        if self._on_fail:
            self._handlers.install(self._no_test)
            self._arm_cancels()
        self.session.begin_end()
        return True

    def ignore_cancels(self) -> None:
        """Leave signals to pytest from here on: archives are waited for, and Ctrl-C gives that up."""
        self._cancels.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        """Record what is collected: modules are imported then."""
        self._enter_place(places.collection_of(collector.nodeid))

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self) -> None:
        """Record that this is collected; a controller has it from a worker."""
        if not self._is_controller:
            self._enter_place(places.COLLECTION)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self) -> None:
        """Record that nothing is collected any more."""
        self._enter_place(places.BETWEEN_TESTS)
        self.session.end_work()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Arm for one test, all its attempts included; its clock runs, but for fixtures of a wider scope."""
        self._has_own_fixtures = False
        self._attempt = item.__dict__.get("execution_count", 1)  # of pytest-rerunfailures
        if item is self._running:  # another attempt, or pytest-timeout came first
            self._enter(item, _SETUP)
        else:
            self._begin(item)

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Name a fixture that is not made for this test alone, and give it a time of its own.

        pytest sets them up first. One that a test or a fixture asks for while it runs counts as theirs:
        nothing tells when its setup ends.
        """
        if self._has_own_fixtures or self._item is None:
            return
        if fixturedef.scope == "function":
            self._has_own_fixtures = True
            self._wide.leave(self._nodeid, Phase.SETUP, self._attempt)
            self.deadlines.start()
        elif not self._wide.is_in_setup():
            place = places.describe_fixture(fixturedef, self._root)
            self._wide.enter(self._nodeid, place, Phase.SETUP, self._attempt, fixturedef)
            self.deadlines.start_wide()

    def enter_call(self, item: pytest.Item) -> None:
        """Record the phase when the setup has passed: sooner than by a hook. The clock runs."""
        self._has_own_fixtures = True
        if self._wide.is_inside:
            self._wide.leave(self._nodeid, Phase.NONE, self._attempt)
        self._enter(item, _CALL)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        """Let the clock run until only fixtures of a wider scope are left to be torn down."""
        if self._wide.is_inside:
            self._wide.leave(self._nodeid, Phase.NONE, self._attempt)
        self._enter(item, _TEARDOWN)
        parent = item.parent
        if (nextitem is None or nextitem.parent is not parent) and item is self._item and parent is not None:
            try:
                parent.addfinalizer(self._begin_wide_teardown)
            except AssertionError:  # its setup never came that far
                self._begin_wide_teardown()

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_post_finalizer(self) -> None:
        """Give each fixture of a wider scope a time of its own."""
        if self._wide.is_inside and self._has_own_fixtures:
            self._native.note_progress()
            self.deadlines.start_wide()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Disarm after the last attempt."""
        if self._nodeid == nodeid:
            self._end()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Disarm if the run was interrupted in a test."""
        self._end()
        self._enter_place(places.SESSION_END)
        self.session.start()  # also in a worker: it has something to do again

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> Generator[None, object, object]:
        """Set a deadline a little before that of pytest-timeout, which may come before the other hooks.

        A wrapper does no harm here: no test runs in it.
        """
        if item is not self._running:
            self._begin(item)
        seconds = settings.timeout or 0
        if self._item is None or not self._is_test_armed or seconds <= 0 or self._is_debugging():
            return (yield)
        self.deadlines.set_pytest_timeout(
            seconds, self.prepared.timeout(self._settings_for(item), seconds, "pytest-timeout")
        )
        result = yield
        self.deadlines.hold_pytest_timeout(item)
        return result

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> None:
        """Cancel ours with theirs."""
        if item is self._item:
            self.deadlines.cancel_pytest_timeout()

    def pytest_enter_pdb(self) -> None:
        """Let no deadline pass for whoever debugs the test, and leave Ctrl-C to the debugger."""
        self.session.stop()
        self.ignore_cancels()
        if self._item is not None:
            self.deadlines.give_up()

    def _begin(self, item: pytest.Item) -> None:
        if self._running is not None:
            self._end()
        self._running = item
        self._nodeid = item.nodeid
        if not self._local:
            self.session.begin_test()
        settings = self._settings_for(item)
        if not (self._handlers.is_owner and (settings.on_fail or settings.watches)):
            return
        self._item = item
        self._is_test_armed = settings.on_fail
        self._begin_test(encode_place(self._nodeid))
        if settings.on_fail:
            standby = self._no_test if settings is self._settings else self.prepared.crash(settings).standby
            if self._handlers.install(standby):
                self._cancels.restore_interrupt()
            self._cancels.wrap_runner()
        if settings.timeout is not None and not self._is_debugging():
            prepared = self.prepared.timeout(settings, settings.timeout, "gencore")
            self.deadlines.set_own(settings.timeout, prepared, exits=self._exits)
            self.deadlines.start()

    def _end(self) -> None:
        self._running = self._nodeid = None
        if not self._local:
            self.session.end_work()
        if self._item is None:
            return
        self._item = None
        self._wide.is_inside = False
        if self.deadlines.is_set:
            self.deadlines.clear()
        self._set_test(places.BETWEEN_TESTS)
        if self._on_fail:
            self._handlers.set_standby(self._no_test)
        elif self._is_test_armed:
            self._handlers.uninstall()

    def _enter_place(self, place: str) -> None:
        if self._handlers.is_owner:
            self._set_test(place)

    def _arm_cancels(self) -> None:
        if self._handlers.is_owner and not self._handlers.is_portable:
            both = (self.prepared.cancel(self._settings, ends=ends) for ends in (True, False))
            self._cancels.arm(*both, from_controller=not self._local)

    def _begin_wide_teardown(self) -> None:
        if self._item is not None:
            self._has_own_fixtures = True
            self._wide.enter(self._nodeid, "fixtures of a wider scope", Phase.TEARDOWN, self._attempt)
            self.deadlines.start_wide()

    def _enter(self, item: pytest.Item, phase: Phase) -> None:
        if item is self._item:
            self._set_phase(phase, self._attempt)
            if self.deadlines.is_set:
                self.deadlines.start()

    def _is_debugging(self) -> bool:
        return self._is_debugged or is_debugging()
