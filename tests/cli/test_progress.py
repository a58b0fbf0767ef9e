"""The progress bar fits the terminal: a longer line would be drawn on a new one each time."""

from __future__ import annotations

import io
import itertools
import re
import sys

import pytest

from pytest_gencore.cli.workspace import progress_bar


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_width(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("time.time", itertools.count(0, 2).__next__)
    monkeypatch.setattr("time.monotonic", itertools.count(0, 2).__next__)

    with progress_bar() as draw:
        assert draw is not None
        for done in range(0, 101, 5):
            draw(done << 20, 100 << 20)

    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[\?25[lh]", "", terminal.getvalue()))
    assert any("50%" in line and "  2.3 MiB/s" in line for line in lines), "50 MiB in 22 s"
    assert any(re.search(r"  \d\d:\d\d:\d\d  ", line) for line in lines), "what is left of the time"
    assert max(map(len, lines)) <= columns
