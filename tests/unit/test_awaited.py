"""The wait of a collector for the report of a failure that was captured when it was raised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_gencore.collector.abort import CaptureDropped
from pytest_gencore.collector.awaited import await_text
from pytest_gencore.collector.source.captured_process import CapturedProcess
from pytest_gencore.run.files import FAILURE, REPORTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Reporting(CapturedProcess):
    """A process that does something while it is watched, and lives on."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def has_ended(self, timeout: float = 0) -> bool:
        self._act()
        return False


def test_last_report_and_the_end_of_reports_between_two_looks(tmp_path: Path) -> None:
    def report_and_end() -> None:
        (tmp_path / FAILURE.named("a")).write_text("assert 0")
        (tmp_path / REPORTED.named()).touch()

    assert await_text(tmp_path, "a", Reporting(report_and_end), lambda: None) == "assert 0"


def test_end_of_reports_without_this_one(tmp_path: Path) -> None:
    process = Reporting((tmp_path / REPORTED.named()).touch)
    with pytest.raises(CaptureDropped):
        await_text(tmp_path, "a", process, lambda: None)
