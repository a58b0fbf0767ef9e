"""In the process that runs the tests: decide about each report, capture, attach."""

from __future__ import annotations

import bdb
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.errors import AlreadyCapturedError, LimitError, describe_error
from pytest_gencore.plugin import allure_report, attach, failures
from pytest_gencore.plugin.failures import PASS_ON

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pytest_gencore.capture import Capture
    from pytest_gencore.plugin.capturer import Capturer
    from pytest_gencore.plugin.fired import Fired

ERROR_KEY = pytest.StashKey[BaseException | None]()
TRIED_KEY = pytest.StashKey[bool]()
REQUESTED_KEY = pytest.StashKey[list[attach.Attachment]]()
REQUEST_FAILURE_KEY = pytest.StashKey[str]()

STOPS_THE_RUN = (pytest.exit.Exception, KeyboardInterrupt, bdb.BdbQuit)


class Capturing:
    """A plugin: captures tests of this process; never changes a verdict."""

    def __init__(
        self,
        config: pytest.Config,
        capturer: Capturer,
        *,
        record: Callable[[pytest.TestReport], None],
        home: str = "",
    ) -> None:
        """``record`` is called with each report that has something of ours on it.

        ``home`` is where archives will be on the host of the controller, empty if that is this one.
        """
        self._home = home
        self.capturer = capturer
        self._record = record
        self.is_wanted = capturer.settings.on_fail
        """Whether anything is known that can ask for a capture of a failure."""
        self.is_moment_wanted = capturer.settings.moment == "raise"
        """Whether a test can ask for a capture when its failure is raised."""
        self._html_path = find_html_path(config)
        settings = capturer.settings
        self._has_page = settings.html and settings.clear_text and not settings.recipient
        is_watched = settings.session_timeout is not None or settings.capture_memory is not None
        if self.is_wanted or is_watched:
            capturer.arm()

    def pytest_collection_finish(self) -> None:
        """Prepare captures before the first test can patch anything."""
        if self.is_wanted or self.capturer.settings.timeout is not None:
            self.capturer.arm()
        if self.is_wanted and self.is_moment_wanted:
            self.capturer.arm_moment()

    def pytest_sessionfinish(self) -> None:
        """Let the end have its descriptors, before anybody waits for captures."""
        self.capturer.release_reserve()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Capture once the report is what all other plugins made of it.

        What the report of a failure takes is not the test's time.
        """
        watch, moment = self.capturer.watch, self.capturer.moment
        if watch is not None:
            if call.excinfo is not None:
                watch.deadlines.stop()
            elif call.when == "setup":
                watch.enter_call(item)
        if moment is not None:
            moment.pause()
        report = yield
        if (
            (watch is not None and watch.deadlines.is_set and watch.deadlines.has_fired(call.when))
            or report.outcome == "failed"
            or (call.when == "teardown" and REQUESTED_KEY in item.stash)
        ):
            self.consider(item, call, report)
        if moment is not None:
            moment.drop()
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_gencore_should_capture(self, item: pytest.Item, report: pytest.TestReport) -> bool:
        """Decide by options and marker, when nobody else did."""
        error = item.stash.get(ERROR_KEY, None)
        return is_capturable(report, error) and self.capturer.settings_for(item).on_fail

    def consider(self, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
        """Capture if the report asks for it; attach what there is to attach."""
        try:
            if report.failed:
                self.capturer.note_failure(report)
            watch = self.capturer.watch
            for fired in watch.deadlines.take_fired() if watch is not None else ():
                self._take_fired(item, report, fired)
            if report.failed and TRIED_KEY not in item.stash and self._is_asked_for(item, call, report):
                item.stash[TRIED_KEY] = True
                self._capture(item, call, report)
            if report.when == "teardown" and REQUESTED_KEY in item.stash:
                self._attach_requested(item, report)
        except PASS_ON:
            raise
        except AlreadyCapturedError:
            item.stash[TRIED_KEY] = True  # by another worker, before it crashed
        except LimitError as error:
            item.stash[TRIED_KEY] = True
            attach.attach_refusal(report, str(error))
        except BaseException as error:  # noqa: BLE001 - a capture that fails changes no verdict
            item.stash[TRIED_KEY] = True
            attach.attach_failure(report, describe_error(error))
        if attach.is_ours(report):
            allure_report.attach_sections(item.config, report, has_page=self._has_page)
            self._record(report)

    def _is_asked_for(self, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> bool:
        item.stash[ERROR_KEY] = call.excinfo.value if call.excinfo else None
        try:
            return bool(item.ihook.pytest_gencore_should_capture(item=item, report=report))
        finally:
            del item.stash[ERROR_KEY]  # else the item keeps the frames of the test alive

    def _capture(self, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
        cancel_other_timers(item)
        capturer = self.capturer
        capturer.arm()
        if capturer.engine is None:
            return
        moment = capturer.moment
        if moment is not None and call.excinfo is not None:
            capture = moment.take(call.excinfo.value)
            if capture is not None:
                moment.tell(capture, failures.make_failure_text(call, report))
                self._attach(item, report, capture)
                return
        # One that will be refused is asked for, too: it is counted. But its locals are not gathered.
        is_refused = capturer.engine.is_full()
        request = capturer.make_request(
            "failure",
            capturer.settings_for(item),
            item,
            phase=report.when,
            failure_text=str(report.longrepr) if is_refused else failures.make_failure_text(call, report),
            failure_frames=failures.find_frames(call),
            exception=failures.describe_type(call),
        )
        self._attach(item, report, capturer.engine.capture(request))
        if moment is not None and call.excinfo is not None:
            attach.attach_note(report, moment.describe_problem())

    def _take_fired(self, item: pytest.Item, report: pytest.TestReport, fired: Fired) -> None:
        """Give the report what a deadline's handler captured: then there is no second capture."""
        engine = self.capturer.engine
        if fired.in_debugger or engine is None:
            return
        from pytest_gencore.run.opening import open_run

        capture = engine.read_result(fired.request, fired.result)
        run = open_run(self.capturer.settings.dir, self.capturer.get_run_id())
        if report.failed or fired.is_gencore:
            item.stash[TRIED_KEY] = True
            run.acknowledge(capture.name)
            self._attach(item, report, capture)
        else:
            run.drop(capture.name)  # it ended in the last moment, after all

    def _attach(self, item: pytest.Item, report: pytest.TestReport, capture: Capture) -> None:
        attachment = attach.Attachment(
            path=str(capture.archive),
            trigger=capture.trigger,
            method=capture.method,
            pid=capture.pid,
            phase=report.when,
            url=self.capturer.find_url(capture.archive),
        )
        self._name(item, report, attachment)

    def _name(self, item: pytest.Item, report: pytest.TestReport, attachment: attach.Attachment) -> None:
        if self._home:
            name = os.path.basename(attachment["path"])  # noqa: PTH119 - pure, whatever a test patched
            attachment = {**attachment, "path": f"{self._home}/{name}"}
        attach.attach_archive(item, report, attachment, html_path=self._html_path, has_page=self._has_page)

    def _attach_requested(self, item: pytest.Item, report: pytest.TestReport) -> None:
        for attachment in item.stash[REQUESTED_KEY]:
            self._name(item, report, attachment)
        reason = item.stash.get(REQUEST_FAILURE_KEY, "")
        if reason:
            attach.attach_failure(report, reason)
        item.stash[REQUESTED_KEY] = []
        item.stash[REQUEST_FAILURE_KEY] = ""


def is_capturable(report: pytest.TestReport, error: BaseException | None) -> bool:
    """Return whether the report is a failure with an exception behind it, in any phase.

    A strict xpass is a failure without an exception; an xfail or a skip has one but is no failure. All other
    kinds (unittest, doctest, async tests, subtests, ``SystemExit``) look alike here.
    """
    return report.failed and error is not None and not isinstance(error, STOPS_THE_RUN)


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


def find_html_path(config: pytest.Config) -> str | None:
    """Return where pytest-html writes its page, None without it."""
    path = config.getoption("htmlpath", None)
    if not path or not config.pluginmanager.hasplugin("html"):
        return None
    return os.path.abspath(os.path.expandvars(str(path)))  # noqa: PTH100 - as pytest-html does it
