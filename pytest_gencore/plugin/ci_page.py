"""In the process that the user sees: tell the CI system of captures while tests run, and at the end."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.errors import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_gencore.ci.captures import Capture
    from pytest_gencore.ci.systems import Target
    from pytest_gencore.plugin.finished import Finished
    from pytest_gencore.plugin.settings import Settings
    from pytest_gencore.run.outcome import Outcome

_LOOK_SECONDS = 0.5


class CiPage:
    """A plugin: whatever goes wrong here becomes one line of the summary."""

    def __init__(
        self, config: pytest.Config, settings: Settings, target: Target, get_run_id: Callable[[], str]
    ) -> None:
        self._config = config
        self._settings = settings
        self._target = target
        self._get_run_id = get_run_id
        self._named: set[str] = set()
        """Archives that reports have named."""
        self._open: set[str] = set()
        """Those of which not all was told."""
        self._looks_at = 0.0
        self._problem = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take notice of archives."""
        names = {os.path.basename(attachment["path"]) for attachment in getattr(report, "gencore", ())}  # noqa: PTH119 - pure, whatever a test patched
        self._open |= names - self._named
        self._named |= names

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """Tell what is news, if a capture is not finished: nothing of a test runs or is patched now."""
        if self._open and not self._is_sent_by_collectors() and time.monotonic() >= self._looks_at:
            self._looks_at = time.monotonic() + _LOOK_SECONDS
            self._try(self._look)

    def finish(self, outcomes: Sequence[Outcome], finished: Sequence[Finished]) -> str:
        """Tell what the captures came to; return what went wrong."""
        self._try(lambda: self._tell_end(outcomes, finished))
        return self._problem

    def _is_sent_by_collectors(self) -> bool:
        """Whether a program tells the system: it would be a child of the process that runs the tests."""
        return self._target.is_program and self._config.getoption("dist", "no") == "no"

    def _look(self) -> None:
        from pytest_gencore.run.opening import open_run

        outcomes = open_run(self._settings.dir, self._get_run_id()).outcomes()
        self._open -= {outcome.archive.name for outcome in outcomes if outcome.state != "working"}
        self._tell(
            [
                self._describe(outcome)
                for outcome in outcomes
                if outcome.archive.name in self._named or outcome.state != "working"
            ],
            waits=False,
        )

    def _tell_end(self, outcomes: Sequence[Outcome], finished: Sequence[Finished]) -> None:
        from pytest_gencore.ci.captures import Capture

        captures = list(map(self._describe, outcomes))
        known = {outcome.archive for outcome in outcomes}
        captures += [
            Capture(
                test=str(entry.subject.nodeid),
                trigger="request",
                verdict="capture requested",
                answer="",
                archive=entry.path,
                state="done",
                size_bytes=entry.size_bytes,
                is_sealed=bool(self._settings.recipient),
            )
            for entry in finished
            if entry.path not in known
        ]
        self._tell(captures, waits=True)

    def _describe(self, outcome: Outcome) -> Capture | None:
        from pytest_gencore.ci.captures import describe, is_told

        return describe(outcome, is_sealed=bool(self._settings.recipient)) if is_told(outcome) else None

    def _tell(self, captures: Sequence[Capture | None], *, waits: bool) -> None:
        from pytest_gencore.ci.telling import RunPlace, tell
        from pytest_gencore.run.folder import run_folder_name
        from pytest_gencore.run.pinned import pinned

        name = run_folder_name(self._get_run_id())
        there = [capture for capture in captures if capture]
        with pinned(self._settings.dir / name) as folder:
            place = RunPlace(folder, name, self._settings.dir)
            told = tell(place, self._target, there, environ=os.environ, waits=waits)
        self._problem = self._problem or told.problem
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if told.lines and reporter is not None:
            reporter.ensure_newline()
            reporter.line("")  # a test may have left its line open, too
            for line in told.lines:
                reporter.write_line(line)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - the run goes on, whatever is wrong with its page
            self._problem = self._problem or f"ci: {describe_error(error)}"
            self._open.clear()
