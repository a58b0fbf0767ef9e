"""What ``moment="raise"`` changes for tests and tools beside it: nothing; and when it is not possible."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from gencore_archives import find_summary

if TYPE_CHECKING:
    from pathlib import Path

    from sample_runs import FindArchives, RunGencore

pytestmark = pytest.mark.field
ON_FAIL = ("--gencore-on-fail", "--gencore-filter=0x11")
ON_RAISE = (*ON_FAIL, "--gencore-moment=raise")
needs_monitoring = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="sys.monitoring is new in Python 3.12"
)


@needs_monitoring
def test_failure_text_is_the_same(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    """No frame of ours, and none that is missing: at the limit of the recursion there is no room for one."""
    pytester.makepyfile(
        test_a="""
        import sys
        import pytest

        def deeper(depth): deeper(depth + 1)

        def deepest(check):
            try:
                deepest(check)
            except RecursionError:
                check()

        def fail(): assert [1] == [2]

        def test_assert(): fail()
        def test_recursion(): deeper(0)
        @pytest.mark.gencore(raises=RecursionError)
        def test_captured_recursion(): deeper(0)
        def test_at_the_limit(): deepest(fail)
        @pytest.mark.gencore(raises=Exception)
        def test_fail(): int("x")
        """
    )
    pytester.makeconftest(
        """
        import os, re
        def pytest_runtest_logreport(report):
            if report.failed:
                text = re.sub(r"x[0-9a-f]{6,}", "x", str(report.longrepr))
                with open(os.environ["TEXTS"], "a") as file:
                    print(report.nodeid, text, sep="\\n", file=file)
        """
    )
    texts: list[str] = []
    for arguments in ((*ON_FAIL, "--gencore-dir=others"), ON_RAISE):
        path = pytester.path / f"texts{len(texts)}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEXTS", str(path))
            run_gencore(*arguments, "--tb=native").assert_outcomes(failed=5)
        texts.append(path.read_text())
    assert texts[0] == texts[1]
    assert len(find_archives()) == 5


@needs_monitoring
def test_nothing_is_kept(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    """What an exception referred to ends with it; children have no capture, other tools have their events."""
    pytester.makepyfile(
        test_a="""
        import gc, os, sys, weakref
        import pytest

        class Thing: pass

        def fail(seen=None):
            thing = Thing()
            if seen is not None:
                seen.append(weakref.ref(thing))
            assert not thing

        def test_life():
            seen = []
            try:
                fail(seen)
            except AssertionError:
                pass
            assert seen[0]() is None

        def test_attributes():
            with pytest.raises(AssertionError) as caught:
                fail()
            assert vars(caught.value) == {} and not hasattr(caught.value, "__notes__")

        def test_child():
            child = os.fork()
            if not child:
                try:
                    fail()
                except AssertionError:
                    os._exit(0)
            assert os.waitpid(child, 0)[1] == 0

        @pytest.mark.parametrize("tool", [sys.monitoring.COVERAGE_ID, sys.monitoring.PROFILER_ID, 3])
        def test_monitoring(tool):
            monitoring, seen = sys.monitoring, []
            monitoring.use_tool_id(tool, "a test")
            event = monitoring.events.RAISE
            monitoring.register_callback(tool, event, lambda code, at, error: seen.append(type(error)))
            monitoring.set_events(tool, event)
            try:
                fail()
            except AssertionError:
                pass
            monitoring.set_events(tool, 0)
            monitoring.free_tool_id(tool)
            assert set(seen) == {AssertionError}

        def test_takes_every_tool():
            for tool in range(6):
                sys.monitoring.free_tool_id(tool)
                sys.monitoring.use_tool_id(tool, "a test")

        def test_has_every_tool():
            for tool in range(6):
                assert sys.monitoring.get_tool(tool) == "a test"
                sys.monitoring.free_tool_id(tool)

        def test_off():
            assert not any(map(sys.monitoring.get_tool, range(3)))
        """
    )
    run_gencore(*ON_RAISE).assert_outcomes(passed=9)
    assert not find_archives()


@needs_monitoring
@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ("(3, 4)", "no tool of sys.monitoring is free"),
        ("(sys.monitoring.DEBUGGER_ID,)", "a debugger is in use"),
    ],
)
def test_why_the_report_is_the_moment(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, tools: str, reason: str
) -> None:
    pytester.makepyfile(test_a="def test_a(): assert 0\ndef test_b(): assert 0")
    pytester.makeconftest(
        f"""
        import sys
        for tool in {tools}:
            sys.monitoring.use_tool_id(tool, "another")
        """
    )
    result = run_gencore(*ON_RAISE)
    result.assert_outcomes(failed=2)
    expect_reports(result, find_archives(), reason)


@pytest.mark.slow(rows=1)
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="of Python before 3.12")
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
def test_old_python(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, workers: list[str]
) -> None:
    pytester.makepyfile(test_a="def test_a(): assert 0\ndef test_b(): assert 0")
    result = run_gencore(*ON_RAISE, *workers)
    result.assert_outcomes(failed=2)
    expect_reports(result, find_archives(), "it needs Python 3.12 or later")


def expect_reports(result: pytest.RunResult, archives: dict[str, Path], reason: str) -> None:
    """Expect captures of reports, and one line that says why."""
    assert len(archives) == 2
    for path in archives.values():
        assert find_summary(path).startswith("failed: ")
    assert result.outlines.count(f"moment=raise: {reason}; captured when it was reported") == 1
