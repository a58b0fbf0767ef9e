"""Show that archives are still being written at the end of a session."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from pytest_gencore.units import format_duration, format_size

if TYPE_CHECKING:
    import pytest

    from pytest_gencore.run.outcome import Outcome

CALLS_PER_HEARTBEAT = 60
"""Progress is told twice a second; CI systems end jobs that say nothing for minutes."""


class StatusLine:
    """One line: rewritten on a terminal, else printed at the start, every 30 seconds and at the end."""

    def __init__(self, reporter: pytest.TerminalReporter | None) -> None:
        self._reporter = reporter
        self._is_tty = reporter is not None and bool(reporter.isatty)
        self._calls = 0
        self._started = time.monotonic()

    def show(self, outcomes: list[Outcome]) -> None:
        """Show the state, if any archive is being written."""
        outcomes = [outcome for outcome in outcomes if outcome.has_archive]
        if self._reporter is None or all(outcome.state != "working" for outcome in outcomes):
            return
        text = describe_progress(outcomes, time.monotonic() - self._started)
        if self._calls == 0:
            self._reporter.line("")  # the line of dots is still open
        if self._is_tty:
            columns = shutil.get_terminal_size().columns
            self._reporter.rewrite(text[: columns - 1], bold=True, erase=True)
        elif self._calls % CALLS_PER_HEARTBEAT == 0:
            self._reporter.write_line(text)
        self._calls += 1

    def say(self, text: str) -> None:
        """Show a line that stays."""
        if self._reporter is None:
            return
        self._reporter.line("")
        self._reporter.write_line(text, bold=True)

    def say_interrupted(self, outcomes: list[Outcome]) -> None:
        """Say what the first Ctrl-C leaves, and what a second one would."""
        self.say(describe_interrupt(outcomes))

    def finish(self, text: str) -> None:
        """Show the last state, if any was shown."""
        if self._reporter is None or self._calls == 0:
            return
        if self._is_tty:
            self._reporter.rewrite(text, bold=True, erase=True)
            self._reporter.line("")
        else:
            self._reporter.write_line(text)


def describe_progress(outcomes: list[Outcome], elapsed_seconds: float = 0.0) -> str:
    """Return how many archives are written, how much of the rest is read, and how long that will take.

    If all are written: how far their upload is.
    """
    working = [outcome for outcome in outcomes if outcome.state == "working"]
    uploading = [outcome for outcome in working if outcome.is_uploading]
    writing = [outcome for outcome in working if not outcome.is_uploading]
    if uploading and not writing:
        return _describe_upload(len(outcomes), uploading)
    text = f"gencore: writing core archives, {len(outcomes) - len(writing)} of {len(outcomes)} finished"
    bytes_total = sum(outcome.bytes_total for outcome in writing)
    bytes_done = sum(outcome.bytes_done for outcome in writing)
    if bytes_total:
        percent = min(100, 100 * bytes_done // bytes_total)
        text += f", {percent} % of {format_size(bytes_total)} read"
        if elapsed_seconds >= 1 and bytes_done:
            seconds_left = max(bytes_total - bytes_done, 0) * elapsed_seconds / bytes_done
            text += f", {format_duration(round(seconds_left))} left"
    if uploading:
        text += f", {len(uploading)} being uploaded"
    if len(writing) == 1:
        text += f": {writing[0].archive.name}"
    return text


def describe_interrupt(outcomes: list[Outcome]) -> str:
    """Return what the first Ctrl-C leaves, and what a second one would."""
    uploading = sum(outcome.is_uploading for outcome in outcomes)
    writing = sum(outcome.state == "working" for outcome in outcomes) - uploading
    done = sum(outcome.state == "done" for outcome in outcomes) + uploading
    text = f"gencore: interrupted: archives finished: {done}, still being written: {writing}"
    if uploading:
        return f"{text}, being uploaded: {uploading}; press Ctrl-C again to give up the last two"
    return f"{text}; press Ctrl-C again to give up the latter"


def _describe_upload(count: int, uploading: list[Outcome]) -> str:
    text = f"gencore: uploading core archives, {count - len(uploading)} of {count} finished"
    bytes_total = sum(outcome.bytes_total for outcome in uploading)
    if bytes_total:  # of those that do not wait for others
        percent = min(100, 100 * sum(outcome.bytes_done for outcome in uploading) // bytes_total)
        text += f", {percent} % of {format_size(bytes_total)} sent"
    if len(uploading) == 1:
        text += f": {uploading[0].archive.name}"
    return text
