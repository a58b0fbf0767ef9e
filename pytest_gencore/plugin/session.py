"""The role objects: what a process of the run does for captures; one of them per config.

Without xdist one process captures and shows (``LocalSession``). With xdist the workers capture and the
controller, which alone resolves directory and run id, shows::

    controller            worker
    configure_node ─────► workerinput: directory, run id
                          makereport: capture
    logreport ◄────────── report.gencore
    testnodedown ◄─────── workeroutput: what is no matter of one report
    sessionfinish: wait for the collectors, correct the junit file, call pytest_gencore_captured
    terminal_summary
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.junit import attacher
from pytest_gencore.plugin.attach import describe_error
from pytest_gencore.plugin.capturing import Capturer
from pytest_gencore.plugin.options import Settings, read_marker
from pytest_gencore.plugin.progress import StatusLine, describe_interrupt
from pytest_gencore.plugin.results import Finished, Results

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_gencore.capture import Outcome, Run
    from pytest_gencore.plugin.deadworkers import DeadWorkers
    from pytest_gencore.plugin.journal import Journal

NAME = "gencore-session"
"""Of the role object, in the plugin manager."""
WORKER_KEY = "gencore"
"""Of our data, in ``workerinput`` and ``workeroutput``."""


class Session:
    """What all roles do."""

    def __init__(self, config: pytest.Config, settings: Settings, *, run_id: str = "") -> None:
        self.config = config
        self.settings = settings
        self._run_id = run_id
        self.wants_engine = settings.on_fail

    def get_run_id(self) -> str:
        """Return the id that all processes of this run share; made at first use, by the one that waits."""
        if not self._run_id:
            from pytest_gencore.run.folder import new_run_id

            self._run_id = new_run_id()
        return self._run_id

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Check every marker, and find out whether anything can ask for a capture."""
        for item in items:
            marker = read_marker(item)
            if marker is not None:
                self.wants_engine |= marker.enabled
            self.wants_engine |= "gencore" in getattr(item, "fixturenames", ())

    def make_header(self) -> list[str]:
        """Return the lines of the report header; none if the run asks for nothing."""
        return []

    def close(self) -> None:
        """End the role, when pytest ends."""


class CapturingSession(Session):
    """A process that runs tests."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        *,
        run_id: str = "",
        worker_id: str | None = None,
        once_a_worker: bool = False,
    ) -> None:
        super().__init__(config, settings, run_id=run_id)
        self.capturer = Capturer(
            config, settings, get_run_id=self.get_run_id, worker_id=worker_id, once_a_worker=once_a_worker
        )
        self._is_local = worker_id is None
        self._journal: Journal | None = None
        if settings.on_fail:
            self._arm()

    def pytest_collection_finish(self) -> None:
        """Prepare captures before the first test can patch anything."""
        if self.wants_engine or self.settings.timeout is not None:
            self._arm()

    def close(self) -> None:
        """Take handlers and timers back."""
        capturer = self.capturer
        if capturer.watch is not None:
            self.config.pluginmanager.unregister(capturer.watch)
            capturer.watch.close()
            capturer.watch = None
        if self._journal is not None:
            self.config.pluginmanager.unregister(self._journal)
            self._journal = None
        super().close()
        capturer.close()

    def _arm(self) -> None:
        self.capturer.arm()
        engine = self.capturer.engine
        if engine is None or self.capturer.watch is not None:
            return
        from pytest_gencore.plugin import journal, watch

        plugins = self.config.pluginmanager
        self.capturer.watch = watch.Watch(self.config, self.capturer, engine, local=self._is_local)
        plugins.register(self.capturer.watch, watch.NAME)
        if self._is_local and self.config.getoption("xmlpath", None):
            self._journal = journal.Journal(self.config, engine)
            plugins.register(self._journal, journal.NAME)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Capture once the report is what all other plugins made of it."""
        report = yield
        self.capturer.consider(item, call, report)
        return report

    @pytest.hookimpl(trylast=True)
    def pytest_gencore_should_capture(self, item: pytest.Item, report: pytest.TestReport) -> bool:
        """Decide by options and marker, when nobody else did."""
        return self.capturer.should_capture(item, report)


class ShowingSession(Session):
    """A process that shows results and writes files about them."""

    def __init__(self, config: pytest.Config, settings: Settings, *, run_id: str = "") -> None:
        super().__init__(config, settings, run_id=run_id)
        self.results = Results(config.invocation_params.dir)
        self._junit_path = attacher.find_junit_path(config.getoption("xmlpath", None))
        self._is_shown = False

    def may_have_captures(self) -> bool:
        """Return whether it is worth looking for captures."""
        return bool(self.settings.on_fail or self.results.reports)

    def find_unavailable(self) -> str:
        """Return why this machine cannot capture, as far as known."""
        return ""

    def make_header(self) -> list[str]:
        """Return what is armed and what is in the way."""
        lines = []
        if self.settings.on_fail:
            reason = self.find_unavailable()
            armed = f"on failure, method {self.settings.method}, archives in {self.settings.dir}"
            lines.append(f"gencore: no capture is possible: {reason}" if reason else f"gencore: {armed}")
        return lines

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take notice of captures; under xdist this is how the controller hears of them."""
        self.results.add_report(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Wait for collectors and complete the junit file.

        Last, because only then all workers are down and the junit file is written: Ctrl-C during the wait
        costs nothing but the wait.
        """
        self.results.add_unavailable(self.find_unavailable())
        if not self.may_have_captures():
            return
        try:
            self._finish()
        except Exception as error:  # noqa: BLE001 - the end of a run must not depend on its archives
            self.results.add_note(f"cannot complete the captures: {describe_error(error)}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the summary."""
        self._show(terminalreporter)

    def close(self) -> None:
        """Show what pytest had no summary for: there is none after an internal error."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            self._show(reporter)

    def _show(self, reporter: pytest.TerminalReporter) -> None:
        lines = self.results.make_lines()
        if lines and not self._is_shown:
            self._is_shown = True
            reporter.section("gencore")
            for line in lines:
                reporter.line(line)

    def _finish(self) -> None:
        from pytest_gencore.capture import Run

        run = Run(self.settings.dir, self.get_run_id())
        status_line = StatusLine(self.config.pluginmanager.get_plugin("terminalreporter"))
        try:
            outcomes = run.wait(progress=status_line.show)
        except KeyboardInterrupt:
            outcomes = self._wait_after_interrupt(run, status_line)
        self.results.settle(outcomes)
        self.results.add_refusals(run.refusals(), self.settings)
        status_line.finish(f"gencore: {self.results.make_count_text()}")
        self._call_captured_hooks()
        self._complete_junit()
        run.close()

    def _wait_after_interrupt(self, run: Run, status_line: StatusLine) -> list[Outcome]:
        """Go on waiting; a second Ctrl-C gives up what is not finished."""
        try:
            status_line.say(describe_interrupt(run.outcomes()))
            return run.wait(progress=status_line.show)
        except KeyboardInterrupt:
            return run.cancel()

    def _call_captured_hooks(self) -> None:
        for entry in self.results.finished:
            self._call_captured_hook(entry)

    def _call_captured_hook(self, entry: Finished) -> None:
        nodeid = entry.subject.nodeid
        try:
            self.config.hook.pytest_gencore_captured(config=self.config, nodeid=nodeid, archive=entry.path)
        except Exception as error:  # noqa: BLE001 - foreign code
            self.results.add_note(f"hook pytest_gencore_captured failed: {describe_error(error)}")

    def _complete_junit(self) -> None:
        if self._junit_path is None or not self._junit_path.exists():
            return
        try:
            problems = attacher.attach_to_junit(self._junit_path, self.results.make_archives(), os.environ)
        except Exception as error:  # noqa: BLE001 - a file that is not what it should be
            problems = [f"junit: no attachments in {self._junit_path}: {describe_error(error)}"]
        for problem in problems:
            self.results.add_note(problem)


class LocalSession(CapturingSession, ShowingSession):
    """The only process."""

    def may_have_captures(self) -> bool:
        """Return whether it is worth looking for captures."""
        return self.capturer.is_armed or super().may_have_captures()

    def find_unavailable(self) -> str:
        """Return why this machine cannot capture, as far as known."""
        return self.capturer.unavailable


class ControllerSession(ShowingSession):
    """The controller of an xdist run; it runs no tests."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        super().__init__(config, settings)
        self._dead_workers: DeadWorkers | None = None
        self._probe = Capturer(config, settings, get_run_id=self.get_run_id, worker_id=None)

    def find_unavailable(self) -> str:
        """Try on behalf of the workers, which say it only when they end."""
        if self.settings.on_fail:
            self._probe.arm()
        return self._probe.unavailable

    def may_have_captures(self) -> bool:
        """Return whether it is worth looking for captures, also those of workers that died."""
        return super().may_have_captures() or (self._dead_workers is not None and self.settings.dir.is_dir())

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker what is resolved here."""
        node.workerinput[WORKER_KEY] = {
            "directory": str(self.settings.dir),
            "run_id": self.get_run_id(),
            "once_a_worker": self.config.getoption("dist", "no") == "each",
        }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take over what a worker says when it ends; raises its usage error."""
        if error is not None and error != "keyboard-interrupt":
            self._look_at_dead(node)
        output = getattr(node, "workeroutput", {}).get(WORKER_KEY, {})
        if output.get("usage_error"):
            raise pytest.UsageError(output["usage_error"])
        self.results.add_unavailable(output.get("unavailable", ""))

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, report: pytest.TestReport) -> None:
        """Tell on the report of a crashed test what was captured of it."""
        node = getattr(report, "node", None)
        if self._dead_workers is None or node is None:
            return
        try:
            self._dead_workers.attach(node.gateway.id, report)
        except Exception as error:  # noqa: BLE001 - the report goes on without us
            self.results.add_note(f"cannot describe a crash: {describe_error(error)}")

    def _look_at_dead(self, node: Any) -> None:
        from pytest_gencore.capture import Run
        from pytest_gencore.plugin.deadworkers import DeadWorkers

        if self._dead_workers is None:
            self._dead_workers = DeadWorkers(Run(self.settings.dir, self.get_run_id()))
        try:
            self._dead_workers.add(node.gateway.id, node, self.results.find_paths())
        except Exception as error:  # noqa: BLE001 - xdist goes on without us
            self.results.add_note(f"cannot look for the captures of a dead worker: {describe_error(error)}")


class WorkerSession(CapturingSession):
    """A worker of an xdist run."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """Pass a usage error on: xdist itself takes it for a crash."""
        try:
            return (yield)
        except pytest.UsageError as error:
            self._output()["usage_error"] = str(error)
            raise

    def pytest_sessionfinish(self) -> None:
        """Tell the controller what is no matter of one report."""
        self._output()["unavailable"] = self.capturer.unavailable

    def _output(self) -> dict[str, Any]:
        output: dict[str, Any] = self.config.workeroutput.setdefault(WORKER_KEY, {})  # type: ignore[attr-defined]
        return output


def make_session(config: pytest.Config, settings: Settings) -> Session:
    """Return the role of this process."""
    worker_input = getattr(config, "workerinput", None)
    if worker_input is not None:
        return make_worker(config, settings, worker_input)
    is_distributed = config.pluginmanager.hasplugin("xdist") and config.getoption("dist", "no") != "no"
    return (ControllerSession if is_distributed else LocalSession)(config, settings)


def make_worker(config: pytest.Config, settings: Settings, worker_input: dict[str, Any]) -> Session:
    """Return the role of a worker, with what the controller resolved."""
    ours = worker_input.get(WORKER_KEY)
    if ours is None:
        return Session(config, settings)  # a controller without this plugin
    settings = dataclasses.replace(settings, dir=Path(ours["directory"]))
    return WorkerSession(
        config,
        settings,
        run_id=ours["run_id"],
        worker_id=worker_input["workerid"],
        once_a_worker=ours["once_a_worker"],
    )
