"""Other timers do not end the session in the middle of a capture, and keep working for other tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sample_runs import FindArchives, RunGencore


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_timer_is_cancelled_before_a_capture(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, method: str
) -> None:
    """An alarm in the middle of a capture would end the session with an internal error (trap T1)."""
    pytester.makepyfile(
        test_a=f"""
        import pytest
        @pytest.mark.timeout(60, method={method!r})
        def test_bad(): assert 0
        def test_ok(): pass
        """
    )
    pytester.makeconftest(
        """
        import signal, threading
        from pytest_gencore.plugin import failures
        make_failure_text = failures.make_failure_text
        def look(*args):
            timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
            assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
            assert all(timer.finished.is_set() for timer in timers)
            return make_failure_text(*args)
        failures.make_failure_text = look
        """
    )
    result = run_gencore("--gencore-on-fail")
    result.assert_outcomes(failed=1, passed=1)
    assert list(find_archives()) == ["test_a.py::test_bad call"]


def test_timed_out_test_is_captured(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(
        test_a="""
        import select, pytest
        @pytest.mark.timeout(0.5, method="signal")
        def test_slow(): select.select([], [], [], 60)
        def test_ok(): pass
        """
    )
    result = run_gencore("--gencore-on-fail")
    result.assert_outcomes(failed=1, passed=1)
    assert list(find_archives()) == ["test_a.py::test_slow call"]


def test_passing_test_keeps_its_timer(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(
        test_a="""
        import signal, pytest
        @pytest.fixture
        def late():
            yield
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        @pytest.mark.timeout(60, method="signal")
        def test_ok(late): pass
        """
    )
    run_gencore("--gencore-on-fail").assert_outcomes(passed=1)


def test_faulthandler_timer_is_cancelled_before_a_capture(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(test_a="def test_bad(): assert 0")
    pytester.makeconftest(
        """
        import faulthandler
        from pytest_gencore.plugin import failures
        cancel, make_failure_text = faulthandler.cancel_dump_traceback_later, failures.make_failure_text
        calls = []
        def record():
            calls.append("cancelled")
            cancel()
        def look(*args):
            assert calls == ["cancelled"]
            return make_failure_text(*args)
        faulthandler.cancel_dump_traceback_later = record
        failures.make_failure_text = look
        """
    )
    result = run_gencore("--gencore-on-fail", "-ofaulthandler_timeout=600")
    result.assert_outcomes(failed=1)
    assert list(find_archives()) == ["test_a.py::test_bad call"]
