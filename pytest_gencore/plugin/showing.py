"""In the process that the user sees: wait for collectors, complete the junit file, show the summary."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.errors import describe_error
from pytest_gencore.installed import NO_EXTENSION, has_extension
from pytest_gencore.plugin.options import is_distributed
from pytest_gencore.plugin.settings import find_folders
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pytest_gencore.plugin.ci_page import CiPage
    from pytest_gencore.plugin.finished import Finished
    from pytest_gencore.plugin.own_run import OwnRun
    from pytest_gencore.plugin.progress import StatusLine
    from pytest_gencore.plugin.results import Results
    from pytest_gencore.plugin.settings import Settings
    from pytest_gencore.run.opening import AnyRun
    from pytest_gencore.run.outcome import Outcome


class Showing:
    """A plugin: shows results and writes files about them."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        *,
        own_run: OwnRun,
        find_unavailable: Callable[[], str],
        may_have_captures: Callable[[], bool],
        ci_page: CiPage | None,
        ignore_cancels: Callable[[], None],
        paused_session: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """``find_unavailable`` says why this machine cannot capture, as far as known.

        ``may_have_captures`` says whether there can be captures that no report has named;
        ``ci_page`` is told of what they came to; ``ignore_cancels`` leaves Ctrl-C to pytest, while archives
        are waited for, and with ``paused_session`` the run need not make progress then.
        """
        self._paused_session = paused_session
        self._ignore_cancels = ignore_cancels
        self._results: Results | None = None
        self._reports: list[pytest.TestReport] = []
        """With something of ours on them, not looked at yet."""
        self._config = config
        self._settings = settings
        self._own_run = own_run
        self._find_unavailable = find_unavailable
        self._may_have_captures = may_have_captures
        self._ci_page = ci_page
        self._junit_path = find_junit_path(config)
        self._is_ended = False
        self._is_shown = False

    def make_header(self) -> list[str]:
        """Return what is armed and what is in the way; nothing if only markers can ask for captures."""
        if not self._settings.on_fail:
            return self._warn_of_memory()
        reason = self._find_unavailable()
        sealed = ", sealed" if self._settings.recipient else ""
        directory = find_folders(self._config).shorten(str(self._settings.dir))
        store = f", uploaded to {self._settings.store}" if self._settings.store else ""
        armed = f"on failure, method {self._settings.method}, archives in {directory}{sealed}{store}"
        if not has_extension():
            from pytest_gencore.systems import has_cores

            asked = self._settings.type
            found = "full" if asked == "full" and has_cores(seals=bool(sealed)) else "text"
            instead = f" instead of {asked}" if asked != found else ""
            armed = (
                f"on failure, type {found}{instead}, archives in {directory}{sealed}{store}: {NO_EXTENSION}"
            )
        lines = [f"no capture is possible: {reason}" if reason else armed, *self._tell_lost_runs()]
        return [*(escape_unprintable(f"gencore: {line}") for line in lines), *self._warn_of_memory()]

    def _warn_of_memory(self) -> list[str]:
        if self._settings.capture_memory is None:
            return []
        if not has_extension():
            return [f"gencore: memory is not watched: {NO_EXTENSION}"]
        from pytest_gencore.machine.memory import find_fullest

        text = "gencore: memory is not watched: neither a cgroup's limit nor /proc/meminfo can be read"
        return [] if find_fullest() else [text]

    def _tell_lost_runs(self) -> list[str]:
        """Say which earlier runs ended without a word, once; their remains are removed."""
        if not (has_extension() and self._settings.dir.is_dir()):
            return []
        from pytest_gencore.run.started import find_lost_runs

        lost = find_lost_runs(self._settings.dir)
        for run in lost:
            run.remove()
        return list(map(str, lost))

    @property
    def results(self) -> Results:
        """What is known so far; imported when there is something to tell."""
        if self._results is None:
            from pytest_gencore.plugin.results import Results
            from pytest_gencore.plugin.shown import find_encoding

            self._results = Results(
                find_folders(self._config),
                is_sealed=bool(self._settings.recipient),
                encoding=find_encoding(self._config.pluginmanager.get_plugin("terminalreporter")),
            )
        while self._reports:
            self._results.add_report(self._reports.pop(0))
        return self._results

    def record(self, report: pytest.TestReport) -> None:
        """Keep a report with something of ours on it.

        It is looked at later: while a test runs it may have patched what imports need.
        """
        self._reports.append(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Wait for collectors and complete the junit file.

        Last, because only then all workers are down and the junit file is written: Ctrl-C during the wait
        costs nothing but the wait.
        """
        self._end_captures(self._find_unavailable)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the summary; pytest's failures stand above it, its short summary below."""
        self._show(terminalreporter)

    def close(self) -> None:
        """Show what pytest had no summary for: there is none after an internal error.

        A session that is interrupted while it starts has no end for plugins: its captures are ended here.
        """
        if not self._is_ended:
            self._end_captures(lambda: "")
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            self._show(reporter)

    def _has_captures(self) -> bool:
        """Return whether a report names captures, or there is the folder in which unnamed ones would be."""
        if self._reports or (self._results is not None and self._results.reports):
            return True
        if not (self._settings.on_fail or self._may_have_captures()):
            return False
        return self._own_run.has_captures()

    def _show(self, reporter: pytest.TerminalReporter) -> None:
        if self._is_shown or (self._results is None and not self._reports):
            return
        from pytest_gencore.plugin.shown import find_shown_texts, shorten_crashes

        lines = self.results.make_lines(find_shown_texts(reporter))
        shorten_crashes(reporter)
        if lines:
            self._is_shown = True
            reporter.section("gencore")
            for line in lines:
                reporter.line(line)

    def _end_captures(self, find_unavailable: Callable[[], str]) -> None:
        self._is_ended = True
        try:
            self._ignore_cancels()
            unavailable = find_unavailable()
            if unavailable:
                self.results.add_unavailable(unavailable)
            if self._has_captures():
                self._finish()
            elif is_distributed(self._config):
                self._close_run()
        except Exception as error:  # noqa: BLE001 - the end of a run must not depend on its archives
            self.results.add_note(f"cannot complete the captures: {describe_error(error)}")

    def _finish(self) -> None:
        from pytest_gencore.plugin.progress import StatusLine

        run = self._own_run.open()
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        status_line = StatusLine(reporter)
        run.end_reports()
        with self._paused_session():
            outcomes = self._wait(run, status_line)
        try:
            self._settle(run, outcomes, reporter)
            status_line.finish(f"gencore: {self.results.make_count_text() or 'no archive'}")
            self._tell(outcomes)
        finally:
            run.close()

    def _settle(self, run: AnyRun, outcomes: list[Outcome], reporter: Any) -> None:
        """Take the outcomes, and what else is known of the run."""
        from pytest_gencore.plugin.shown import find_shown_reports
        from pytest_gencore.run.pinned import describe_exposure

        problem = run.find_problem()
        if problem:
            self.results.add_note(f"what became of the captures is not known: {problem}")
        self.results.settle(
            outcomes,
            problem=problem and "what became of it is not known",
            shown=() if reporter is None else find_shown_reports(reporter),
        )
        exposure = describe_exposure(self._settings.dir)
        if exposure:
            self.results.add_note(f"others can replace the archives in {self._settings.dir}: {exposure}")
        self.results.add_refusals(run.refusals(), self._settings)

    def _tell(self, outcomes: list[Outcome]) -> None:
        """Name the archives wherever else they are looked for."""
        if self._ci_page is not None:
            problem = self._ci_page.finish(outcomes, self.results.finished)
            if problem:
                self.results.add_note(problem)
        self._call_captured_hooks()
        self._complete_junit()
        self._complete_allure()

    def _wait(self, run: AnyRun, status_line: StatusLine) -> list[Outcome]:
        try:
            is_cancelled = any(outcome.trigger == "cancel" for outcome in run.outcomes())
            return run.wait(progress=status_line.show, timeout=self._settings.grace if is_cancelled else None)
        except KeyboardInterrupt:
            return self._wait_after_interrupt(run, status_line)

    def _close_run(self) -> None:
        """Remove what workers have left that were killed."""
        self._own_run.open().close()

    def _wait_after_interrupt(self, run: AnyRun, status_line: StatusLine) -> list[Outcome]:
        """Go on waiting; a second Ctrl-C gives up what is not finished."""
        try:
            status_line.say_interrupted(run.outcomes())
            return run.wait(progress=status_line.show)
        except KeyboardInterrupt:
            return run.cancel()

    def _call_captured_hooks(self) -> None:
        for entry in self.results.finished:
            self._call_captured_hook(entry)

    def _call_captured_hook(self, entry: Finished) -> None:
        nodeid = entry.subject.nodeid
        try:
            self._config.hook.pytest_gencore_captured(config=self._config, nodeid=nodeid, archive=entry.path)
        except Exception as error:  # noqa: BLE001 - foreign code
            self.results.add_note(f"hook pytest_gencore_captured failed: {describe_error(error)}")

    def _complete_junit(self) -> None:
        if self._junit_path is None or not self._junit_path.exists():
            return
        from pytest_gencore.junit import attacher

        try:
            problems = attacher.attach_to_junit(self._junit_path, self.results.make_archives(), os.environ)
        except Exception as error:  # noqa: BLE001 - a file that is not what it should be
            problems = [f"junit: no attachments in {self._junit_path}: {describe_error(error)}"]
        for problem in problems:
            self.results.add_note(problem)

    def _complete_allure(self) -> None:
        from pytest_gencore.plugin.allure_report import complete_attachments

        archives = (entry.path for entry in self.results.finished)
        problem = complete_attachments(self._config, self.results.corrections, archives)
        if problem:
            self.results.add_note(problem)


def find_junit_path(config: pytest.Config) -> Path | None:
    """Return where pytest writes its junit file, None without one."""
    path = config.getoption("xmlpath", None)
    if not path:
        return None
    from pytest_gencore.junit import attacher

    return attacher.find_junit_path(path)
