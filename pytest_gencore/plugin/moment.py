"""Capture when an exception is raised, before the test tidies up behind it; needs ``sys.monitoring``.

One tool of it, only while a test runs that asks for that.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_gencore.errors import describe_error
from pytest_gencore.plugin.debuggers import is_debugging
from pytest_gencore.plugin.failures import MACHINERY, PASS_ON, name_type
from pytest_gencore.plugin.raised import Raised, is_new
from pytest_gencore.probe.facts import is_project_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

    from pytest_gencore.capture import Capture, CaptureEngine, CaptureRequest
    from pytest_gencore.plugin.settings import Settings
    from pytest_gencore.run.opening import AnyRun

NAME = "gencore-moment"
TOO_OLD: Final = "it needs Python 3.12 or later"
TYPES: Final = (AssertionError, pytest.fail.Exception)
"""What is captured unless a marker says otherwise."""

_monitoring: Any = getattr(sys, "monitoring", None)
_TOOLS: Final = (4, 3)
"""Those to which ``sys.monitoring`` gives no purpose."""
_TOOL_NAME: Final = "pytest-gencore"
_getpid = os.getpid
"""Kept: a test may patch ``os``."""


class Moment:
    """A plugin of its own, registered only if a test can ask for it: at most one capture a test."""

    def __init__(
        self,
        engine: CaptureEngine,
        *,
        settings_for: Callable[[pytest.Item], Settings],
        make_request: Callable[..., CaptureRequest],
        get_run: Callable[[], AnyRun],
    ) -> None:
        self.problem = ""
        """Why the running test is captured when its failure is reported; empty if nothing keeps us."""
        self._engine = engine
        self._settings_for = settings_for
        self._make_request = make_request
        self._get_run = get_run
        self._item: pytest.Item | None = None
        self._phase: str | None = None
        """None while no code of the test runs."""
        self._tool: int | None = None
        self._pid = 0
        self._chance: list[None] = []
        """Has one element until an exception was captured: threads may raise at the same time."""
        self._raised: Raised | None = None
        self._dropped: str | None = None
        """Name of a capture of the running test that nobody wants."""
        self._is_foreign: dict[str, bool] = {}

    def close(self) -> None:
        """Watch no longer."""
        self._end()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Watch for exceptions; reruns share one chance."""
        if item is not self._item:
            self._begin(item)
        self._phase = "setup"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        """Record the phase."""
        self._phase = "call"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """Record the phase."""
        self._phase = "teardown"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self) -> None:
        """Watch no longer."""
        self._end()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Watch no longer if the run was interrupted in a test."""
        self._end()

    def pytest_enter_pdb(self) -> None:
        """Leave whoever debugs the test alone."""
        self.problem = "a debugger is in use"
        self._stop()

    def describe_problem(self) -> str:
        """Return why the running test was not captured before; empty if nothing kept us."""
        return f"moment=raise: {self.problem}; captured when it was reported" if self.problem else ""

    def pause(self) -> None:
        """Ignore what is raised until the next phase begins: a report is made."""
        self._phase = None

    def take(self, error: BaseException) -> Capture | None:
        """Return the capture of the moment when this failure was raised; None if there is none.

        That of another exception, which was caught, is dropped; then the test can be captured again.
        """
        raised, self._raised = self._raised, None
        if raised is not None and raised.capture is not None:
            if raised.is_in(error):
                return raised.capture
            self._drop(raised.capture)
        if self._dropped is not None:
            with contextlib.suppress(FileNotFoundError):
                self._get_run().wait_for(self._dropped)
            self._dropped = None
        return None

    def tell(self, capture: Capture, text: str) -> None:
        """Tell its collector how the failure reads; raises OSError."""
        self._get_run().tell_failure(capture.name, text)

    def drop(self) -> None:
        """Drop the capture if no report has taken it: its exception was caught."""
        raised, self._raised = self._raised, None
        if raised is not None and raised.capture is not None:
            self._drop(raised.capture)

    def _drop(self, capture: Capture) -> None:
        self._dropped = capture.name
        self._get_run().drop(self._dropped)

    def _begin(self, item: pytest.Item) -> None:
        self._end()
        self._item = item
        settings = self._settings_for(item)
        if settings.moment != "raise" or not settings.on_fail:
            return
        self._pid = _getpid()
        self._chance = [None]
        self._start(settings.raises or TYPES)

    def _end(self) -> None:
        self._stop()
        self.drop()
        self._item = self._phase = self._dropped = None
        self.problem = ""

    def _start(self, kinds: tuple[type[BaseException], ...]) -> None:
        if _monitoring is None:
            self.problem = TOO_OLD
        elif is_debugging():
            self.problem = "a debugger is in use"
        else:
            self._tool = next((tool for tool in _TOOLS if _monitoring.get_tool(tool) is None), None)
            if self._tool is None:
                self.problem = "no tool of sys.monitoring is free"
                return
            _monitoring.use_tool_id(self._tool, _TOOL_NAME)
            self._watch(kinds, self._on_raise)
            _monitoring.set_events(self._tool, _monitoring.events.RAISE)

    def _stop(self) -> None:
        tool, self._tool = self._tool, None
        self._chance = []
        if tool is not None and _monitoring.get_tool(tool) == _TOOL_NAME:  # else the test has taken it
            _monitoring.set_events(tool, 0)
            _monitoring.register_callback(tool, _monitoring.events.RAISE, None)
            _monitoring.free_tool_id(tool)

    def _watch(
        self, what: tuple[type, ...] | int, callback: Callable[[CodeType, BaseException], object]
    ) -> None:
        native_callback = self._engine.native.filter_raises(what, callback)
        _monitoring.register_callback(self._tool, _monitoring.events.RAISE, native_callback)

    def _on_raise(self, code: CodeType, error: BaseException) -> None:
        """Capture the first one in code of the project, on any thread.

        What a signal handler raises meanwhile passes on if it is no ``Exception``, as that of pytest-timeout.
        """
        if self._phase is None or self._looks_foreign(code.co_filename) or _getpid() != self._pid:
            return
        try:
            self._chance.pop()
        except IndexError:
            return
        self._raised = raised = Raised(error)
        self._watch(raised.address, self._on_same_address)
        try:
            raised.capture = self._capture(error)
        except PASS_ON:
            raise
        except Exception as problem:  # noqa: BLE001 - then the report is the moment
            self.problem = describe_error(problem)

    def _on_same_address(self, _code: CodeType, error: BaseException) -> None:
        """Notice that the exception does not live any more: this one has no traceback behind it yet."""
        if self._raised is not None and is_new(error):
            self._raised.is_gone = True

    def _capture(self, error: BaseException) -> Capture | None:
        item, engine = self._item, self._engine
        if item is None or engine.is_full():
            return None  # refused when it is reported, and counted then
        if engine.find_room() == "hold":
            self.problem = "too little memory is left for the test to go on beside its snapshot"
            return None
        request = self._make_request(
            "failure",
            self._settings_for(item),
            item,
            phase=self._phase,
            exception=name_type(type(error)),
            moment="raise",
        )
        return engine.capture(request)

    def _looks_foreign(self, file: str) -> bool:
        known = self._is_foreign.get(file)
        if known is None:
            known = self._is_foreign[file] = is_foreign(file)
        return known


def is_foreign(file: str) -> bool:
    """Return whether code is not the project's: installed, the standard library's, or without a file."""
    return not is_project_file(file) or file.startswith(_FOREIGN)


_FOREIGN: Final = (
    *MACHINERY,
    *(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib")),  # noqa: PTH118
)
"""How the names of more files begin that are not the project's."""
