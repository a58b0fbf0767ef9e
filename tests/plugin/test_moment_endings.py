"""What becomes of a capture of ``moment="raise"`` that no report takes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from gencore_archives import find_summary

if TYPE_CHECKING:
    from sample_runs import FindArchives, RunGencore

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in Python 3.12"),
]
ON_RAISE = ("--gencore-on-fail", "--gencore-filter=0x11", "--gencore-moment=raise")


def test_nothing_is_refused_for_what_is_caught(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(
        test_a="""
        import pytest
        def test_passes():
            with pytest.raises(AssertionError):
                assert 0
        def test_bad(): assert 0
        """
    )
    result = run_gencore(*ON_RAISE, "--gencore-max-cores=0")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["1 not captured: the limit of 0 captures*"])


def test_process_that_ends_before_its_report(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    """The archive is kept: a report that could tell whether it is wanted never comes."""
    pytester.makepyfile(
        test_a="""
        import os

        def test_ends():
            try:
                assert 0
            finally:
                os._exit(3)
        """
    )
    assert run_gencore(*ON_RAISE, "-n1").ret == pytest.ExitCode.TESTS_FAILED
    (archive,) = find_archives().values()
    assert find_summary(archive).startswith("AssertionError raised in ")


def test_interrupted_run(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    """Nobody waits for a report that does not come."""
    pytester.makepyfile(
        test_a="""
        import pytest

        def test_interrupted():
            with pytest.raises(AssertionError):
                assert 0
            raise KeyboardInterrupt
        """
    )
    assert run_gencore(*ON_RAISE, timeout=60).ret == pytest.ExitCode.INTERRUPTED
    assert not find_archives()
