"""In the process that runs the tests: decide about each report, capture, attach."""

from __future__ import annotations

import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

import pluggy
import pytest

from pytest_gencore.errors import AlreadyCapturedError, LimitError
from pytest_gencore.junit.attacher import find_junit_path, find_shown_base
from pytest_gencore.plugin import attach, decision
from pytest_gencore.plugin.options import Settings, apply_marker, read_marker

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.capture import Capture, CaptureEngine, CaptureRequest, Trigger
    from pytest_gencore.plugin.fired import Fired
    from pytest_gencore.plugin.watch import Watch

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
        once_a_worker: bool = False,
    ) -> None:
        self.settings = settings
        self._once_a_worker = once_a_worker
        self.unavailable = ""
        """Why nothing can be captured; empty if it can, or if nobody asked yet."""
        self._config = config
        self._get_run_id = get_run_id
        self._worker_id = worker_id
        self.engine: CaptureEngine | None = None
        self.watch: Watch | None = None
        """Crash handlers and deadlines, if there are any."""
        self._stderr_fd = -1
        self._html_path = find_html_path(config)

    @property
    def is_armed(self) -> bool:
        """Return whether a capture was prepared, successfully or not."""
        return self.engine is not None or bool(self.unavailable)

    def arm(self) -> None:
        """Prepare captures, while nothing is patched by a test yet."""
        if self.is_armed:
            return
        try:
            from pytest_gencore.capture import CaptureEngine
            from pytest_gencore.plugin.handlers import duplicate_stderr
            from pytest_gencore.request.context import SessionContext

            self._stderr_fd = duplicate_stderr(self._config)
            local = self._worker_id is None
            junit_path = find_junit_path(self._config.getoption("xmlpath", None)) if local else None
            self.engine = CaptureEngine(
                self.settings.dir,
                self._get_run_id(),
                max_captures=self.settings.max_cores,
                max_bytes=self.settings.max_size,
                stderr_fd=self._stderr_fd,
                session=SessionContext(
                    is_local=local,
                    rootdir=str(self._config.rootpath),
                    junit_path=None if junit_path is None else str(junit_path),
                    junit_base=None if junit_path is None else find_shown_base(junit_path, os.environ),
                ),
            )
        except Exception as error:  # noqa: BLE001 - the run goes on without captures, whatever is missing
            self.unavailable = attach.describe_error(error)

    def close(self) -> None:
        """Give up what handlers needed."""
        if self._stderr_fd >= 0:
            os.close(self._stderr_fd)
            self._stderr_fd = -1

    def make_request(
        self, trigger: Trigger, settings: Settings, item: pytest.Item | None, **details: Any
    ) -> CaptureRequest:
        """Return a request for a capture of this process, while a test runs or between tests."""
        from pytest_gencore.capture import CaptureRequest

        return CaptureRequest(
            trigger=trigger,
            method=settings.method,
            threads=settings.threads,
            core_filter=settings.filter,
            nodeid=None if item is None else item.nodeid,
            attempt=getattr(item, "execution_count", 1),
            worker_id=self._worker_id,
            once_a_worker=self._once_a_worker,
            **details,
        )

    def settings_for(self, item: pytest.Item) -> Settings:
        """Return the settings of one test."""
        return apply_marker(self.settings, read_marker(item))

    def consider(self, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
        """Capture if the report asks for it; attach what there is to attach."""
        try:
            self._take_fired(item, call, report)
            if report.failed and TRIED_KEY not in item.stash and self._is_asked_for(item, call, report):
                item.stash[TRIED_KEY] = True
                self._capture(item, call, report)
            if report.when == "teardown":
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
        if self.engine is None:
            return
        # One that will be refused is asked for, too: it is counted. But its locals are not gathered.
        is_refused = self.engine.is_full()
        request = self.make_request(
            "failure",
            self.settings_for(item),
            item,
            phase=report.when,
            failure_text=str(report.longrepr) if is_refused else make_failure_text(call, report),
            failure_frames=find_frames(call),
            exception=describe_type(call),
        )
        self._attach(item, report, self.engine.capture(request))

    def _take_fired(self, item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
        """Give the report what a deadline's handler captured: then there is no second capture."""
        for fired in self.watch.take_fired(call.when) if self.watch is not None else ():
            if not fired.in_debugger:
                self._take_one(item, report, fired)

    def _take_one(self, item: pytest.Item, report: pytest.TestReport, fired: Fired) -> None:
        assert self.engine is not None
        from pytest_gencore.capture import Run

        capture = self.engine.read_result(fired.request, fired.result)
        run = Run(self.settings.dir, self._get_run_id())
        name = capture.archive.name.removesuffix(".tar.gz")
        if report.failed or fired.is_gencore:
            item.stash[TRIED_KEY] = True
            run.acknowledge(name)
            self._attach(item, report, capture)
        else:
            run.drop(name)  # it ended in the last moment, after all

    def _attach(self, item: pytest.Item, report: pytest.TestReport, capture: Capture) -> None:
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


def describe_type(call: pytest.CallInfo[Any]) -> str | None:
    """Return the type of the failure as tracebacks name it, None without one."""
    if call.excinfo is None:
        return None
    kind = call.excinfo.type
    module, name = kind.__module__, kind.__qualname__
    return name if module in {"builtins", "__main__"} else f"{module}.{name}"


def find_frames(call: pytest.CallInfo[Any]) -> tuple[tuple[str, int, str], ...]:
    """Return file, line and function of every frame of the failure, the innermost last."""
    frames = []
    entry = call.excinfo.tb if call.excinfo else None
    while entry is not None:
        code = entry.tb_frame.f_code
        frames.append((code.co_filename, entry.tb_lineno, getattr(code, "co_qualname", code.co_name)))
        entry = entry.tb_next
    return tuple(frames)


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
