"""What passing tests of an armed run do not cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest
    from sample_runs import RunGencore

COUNT = """
    from pytest_gencore.capture import CaptureEngine

    original, triggers = CaptureEngine.prepare_capture, []

    def prepare_capture(self, request, **options):
        triggers.append(request.trigger)
        return original(self, request, **options)

    CaptureEngine.prepare_capture = prepare_capture

    def pytest_unconfigure():
        print("prepared:", *sorted(triggers))
"""


def test_captures_are_prepared_once_for_all_tests(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(
        test_a="""
        import pytest

        @pytest.mark.parametrize("number", range(20))
        def test_a(number): pass

        @pytest.mark.parametrize("number", range(20))
        @pytest.mark.gencore(timeout=50)
        def test_b(number): pass
        """
    )
    pytester.makeconftest(COUNT)
    result = run_gencore("--gencore-on-fail", "--gencore-timeout=60")
    result.assert_outcomes(passed=40)
    result.stdout.fnmatch_lines(["prepared: cancel cancel crash crash slow slow timeout timeout"])
