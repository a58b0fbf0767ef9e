"""What pytest's own summary shows of ours: the rest is told in our section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_gencore.plugin.attach import SECTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def find_shown_reports(reporter: Any) -> Iterator[pytest.TestReport]:
    """Yield the reports of what failed."""
    for category in ("failed", "error"):
        yield from reporter.stats.get(category, ())


def find_shown_texts(reporter: Any) -> Iterator[str]:
    """Yield what the failures and errors of the summary show that may be ours.

    Reports of tests that passed, or that were run again, are not shown; sections not with ``--show-capture``,
    and nothing with ``--tb=no``.
    """
    options = reporter.config.option
    if getattr(options, "tbstyle", "auto") == "no":
        return
    for report in find_shown_reports(reporter):
        if isinstance(report.longrepr, str):  # of a worker that crashed
            yield report.longrepr
        if getattr(options, "showcapture", "all") == "all":
            yield from (content for name, content in report.sections if name == SECTION)


def shorten_crashes(reporter: Any) -> None:
    """Leave of a worker that crashed what pytest-xdist says: the short summary repeats all of it on CI."""
    for report in find_shown_reports(reporter):
        if hasattr(report, "gencore_crash"):
            report.longrepr = report.gencore_crash


def find_encoding(reporter: Any) -> str:
    """Return that of the terminal or file to which pytest writes."""
    writer = getattr(reporter, "_tw", None)  # private: without it, the usual one
    return str(getattr(getattr(writer, "_file", None), "encoding", None) or "utf-8")
