"""In the process that runs the tests: decide about each report, capture, attach."""

from __future__ import annotations

import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

import pluggy
import pytest

from pytest_gencore.plugin import attach, decision
from pytest_gencore.plugin.options import Settings, apply_marker, read_marker

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.capture import CaptureEngine

ERROR_KEY = pytest.StashKey[BaseException | None]()
TRIED_KEY = pytest.StashKey[bool]()
REQUESTED_KEY = pytest.StashKey[list[attach.Attachment]]()
REQUEST_FAILURE_KEY = pytest.StashKey[str]()

PASS_ON = (KeyboardInterrupt, pytest.exit.Exception)

# Frames of the machinery below and above a test say nothing about its failure.
MACHINERY = tuple(
    os.path.join(os.path.dirname(inspect.getfile(thing)), "")  # noqa: PTH118, PTH120 - compared with co_filename
    for thing in (pytest.Item, pluggy, attach)
)


class Capturer:
    """Captures tests of this process; never changes a verdict."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        *,
        get_run_id: Callable[[], str],
        worker_id: str | None,
    ) -> None:
        self.settings = settings
        self.unavailable = ""
        """Why nothing can be captured; empty if it can, or if nobody asked yet."""
        self._config = config
        self._get_run_id = get_run_id
        self._worker_id = worker_id
        self._engine: CaptureEngine | None = None
        self._html_path = find_html_path(config)

    @property
    def is_armed(self) -> bool:
        """Return whether a capture was prepared, successfully or not."""
        return self._engine is not None or bool(self.unavailable)

    def arm(self) -> None:
        """Prepare captures, while nothing is patched by a test yet."""
        if self.is_armed:
            return
        try:
            from pytest_gencore.capture import CaptureEngine

            self._engine = CaptureEngine(self.settings.dir, self._get_run_id())
        except Exception as error:  # noqa: BLE001 - the run goes on without captures, whatever is missing
            self.unavailable = attach.describe_error(error)

    def settings_for(self, item: pytest.Item) -> Settings:
        """Return the settings of one test."""
        return apply_marker(self.settings, read_marker(item))

    def consider(self, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
        """Capture if the report asks for it; attach what there is to attach."""
        try:
            if report.failed and TRIED_KEY not in item.stash and self._is_asked_for(item, call, report):
                item.stash[TRIED_KEY] = True
                self._capture(item, call, report)
            if report.when == "teardown":
                self._attach_requested(item, report)
        except PASS_ON:
            raise
        except BaseException as error:  # noqa: BLE001 - a capture that fails changes no verdict
            item.stash[TRIED_KEY] = True
            attach.attach_failure(report, attach.describe_error(error))

    def should_capture(self, item: pytest.Item, report: pytest.TestReport) -> bool:
        """Return our own decision."""
        error = item.stash.get(ERROR_KEY, None)
        if not decision.is_capturable(report, error):
            return False
        return decision.wants_capture(report, error, enabled=self.settings_for(item).on_fail)

    def _is_asked_for(self, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> bool:
        item.stash[ERROR_KEY] = call.excinfo.value if call.excinfo else None
        try:
            return bool(item.ihook.pytest_gencore_should_capture(item=item, report=report))
        finally:
            del item.stash[ERROR_KEY]  # else the item keeps the frames of the test alive

    def _capture(self, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
        cancel_other_timers(item)
        self.arm()
        if self._engine is None:
            return
        from pytest_gencore.capture import CaptureRequest

        settings = self.settings_for(item)
        request = CaptureRequest(
            trigger="failure",
            method=settings.method,
            threads=settings.threads,
            core_filter=settings.filter,
            nodeid=item.nodeid,
            phase=report.when,
            attempt=getattr(item, "execution_count", 1),
            worker_id=self._worker_id,
            failure_text=make_failure_text(call, report),
        )
        capture = self._engine.capture(request)
        attachment = attach.Attachment(
            path=str(capture.archive), trigger=capture.trigger, method=capture.method, pid=capture.pid
        )
        attach.attach_archive(item, report, attachment, html_path=self._html_path)

    def _attach_requested(self, item: pytest.Item, report: pytest.TestReport) -> None:
        if REQUESTED_KEY not in item.stash:
            return
        for attachment in item.stash[REQUESTED_KEY]:
            attach.attach_archive(item, report, attachment, html_path=self._html_path)
        reason = item.stash.get(REQUEST_FAILURE_KEY, "")
        if reason:
            attach.attach_failure(report, reason)
        item.stash[REQUESTED_KEY] = []
        item.stash[REQUEST_FAILURE_KEY] = ""


def cancel_other_timers(item: pytest.Item) -> None:
    """Cancel the timers that could interrupt a capture.

    An alarm of pytest-timeout inside a reporting hook ends the whole session with an internal error. All of
    them are cancelled for a failed test right after this hook anyway, in ``pytest_exception_interact``.
    """
    plugins = item.config.pluginmanager
    if plugins.hasplugin("timeout"):
        item.config.hook.pytest_timeout_cancel_timer(item=item)
    faulthandler = sys.modules.get("faulthandler")
    if faulthandler is not None and plugins.hasplugin("faulthandler"):
        faulthandler.cancel_dump_traceback_later()


def make_failure_text(call: pytest.CallInfo[Any], report: pytest.TestReport) -> str:
    """Return the failure as pytest prints it, with locals of the test's own frames."""
    try:
        assert call.excinfo is not None
        return str(call.excinfo.getrepr(showlocals=True, style="long", tbfilter=drop_machinery))
    except PASS_ON:
        raise
    except BaseException:  # noqa: BLE001 - objects of the test are asked for their repr
        return str(report.longrepr)


def drop_machinery(excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    """Return the traceback without frames of pytest, pluggy and this plugin."""
    own = excinfo.traceback.filter(lambda entry: not entry.frame.code.raw.co_filename.startswith(MACHINERY))
    return own or excinfo.traceback


def find_html_path(config: pytest.Config) -> str | None:
    """Return where pytest-html writes its page, None without it."""
    path = config.getoption("htmlpath", None)
    if not path or not config.pluginmanager.hasplugin("html"):
        return None
    return os.path.abspath(os.path.expandvars(str(path)))  # noqa: PTH100 - as pytest-html does it
