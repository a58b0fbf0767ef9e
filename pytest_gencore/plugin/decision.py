"""The pure decision: does this report ask for a capture."""

from __future__ import annotations

import bdb

import pytest

STOPS_THE_RUN = (pytest.exit.Exception, KeyboardInterrupt, bdb.BdbQuit)


def is_capturable(report: pytest.TestReport, error: BaseException | None) -> bool:
    """Return whether the report is a failure with an exception behind it, in any phase.

    A strict xpass is a failure without an exception; an xfail or a skip has one but is no failure. All other
    kinds (unittest, doctest, async tests, subtests, ``SystemExit``) look alike here.
    """
    return report.failed and error is not None and not isinstance(error, STOPS_THE_RUN)


def wants_capture(report: pytest.TestReport, error: BaseException | None, *, enabled: bool) -> bool:
    """Return whether options and marker (``enabled``) and the kind of failure ask for a capture.

    That there is one capture a test (not again for the teardown of a captured test, a second subtest or a
    rerun) is not decided here: the caller remembers it.
    """
    return enabled and is_capturable(report, error)
