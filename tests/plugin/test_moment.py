"""``moment="raise"``: the snapshot is taken before ``finally``, ``with`` and fixtures tidy up."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from gencore_archives import find_summary, read_member

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sample_runs import FindArchives, RunGencore

    Moments = Callable[[], Mapping[str, str]]

pytestmark = [
    pytest.mark.field,
    pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in Python 3.12"),
]
ON_RAISE = ("--gencore-on-fail", "--gencore-filter=0x11", "--gencore-moment=raise")


@pytest.fixture
def find_moments(find_archives: FindArchives) -> Moments:
    """Return ``TYPE raised`` or ``failed`` for each archive, by test and phase; each has ``failure.txt``."""

    def find() -> dict[str, str]:
        found = {}
        for name, path in find_archives().items():
            assert read_member(path, "failure.txt")
            summary = find_summary(path).partition(" in ")[0]
            is_raised = not summary.startswith("failed: ")
            found[name.removeprefix("test_a.py::")] = summary if is_raised else "failed"
        return found

    return find


def test_evidence_is_there(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    """Threads that are joined before the report is made, one of them in a call of a socket that is closed."""
    pytester.makepyfile(
        test_a="""
        import contextlib, socket, threading
        from concurrent.futures import ThreadPoolExecutor
        import pytest

        def work(started, end):
            started.set()
            end.wait()

        def fail_beside_a_pool():
            started, end = threading.Event(), threading.Event()
            with ThreadPoolExecutor(1, thread_name_prefix="worker") as pool:
                pool.submit(work, started, end)
                started.wait()
                try:
                    assert end is None
                finally:
                    end.set()

        def receive(started, end):
            started.set()
            end.recv(1)

        @pytest.fixture
        def connection():
            started = threading.Event()
            ours, theirs = socket.socketpair()
            reader = threading.Thread(target=receive, args=(started, theirs), name="reader")
            reader.start()
            started.wait()
            with ours:
                yield ours
            reader.join()
            theirs.close()

        def test_raise(connection):
            fail_beside_a_pool()

        @pytest.mark.gencore(moment="report")
        def test_report():
            fail_beside_a_pool()
        """
    )
    run_gencore(*ON_RAISE).assert_outcomes(failed=2)
    archives = find_archives()
    at_raise, at_report = (
        read_member(archives[f"test_a.py::{name} call"], "stacks.txt").decode()
        for name in ("test_raise", "test_report")
    )
    summary = find_summary(archives["test_a.py::test_raise call"])
    assert summary.startswith("AssertionError raised in test_a.py::test_raise, call, process ")
    first, *others = at_raise.split("\nThread ")[1:]
    assert "raised it" in first
    assert "in fail_beside_a_pool\n    assert end is None" in first
    assert "pytest_gencore/plugin" not in at_raise
    (worker,) = (text for text in others if text.startswith("worker_0,"))
    assert "in work\n    end.wait()" in worker
    (reader,) = (text for text in others if text.startswith("reader,"))
    assert "in receive\n    end.recv(1)" in reader
    assert "Thread worker" not in at_report
    failure = read_member(archives["test_a.py::test_raise call"], "failure.txt").decode()
    assert "in fail_beside_a_pool" in failure or "def fail_beside_a_pool" in failure
    assert "AssertionError" in failure


def test_ways_to_fail(pytester: pytest.Pytester, run_gencore: RunGencore, find_moments: Moments) -> None:
    """However an exception gets from where it is raised to the report: one archive, of the first moment."""
    pytester.makepyfile(
        test_a="""
        import asyncio, unittest
        from concurrent.futures import ThreadPoolExecutor
        import pytest

        def check(): assert 0

        async def check_later():
            await asyncio.sleep(0)
            check()

        async def check_in_a_group():
            async with asyncio.TaskGroup() as group:
                group.create_task(check_later())

        class TestCase(unittest.TestCase):
            def test_equal(self): self.assertEqual(1, 2)

        class TestAsync(unittest.IsolatedAsyncioTestCase):
            async def test_later(self): await check_later()

        @pytest.fixture
        def bad(): check()

        @pytest.fixture
        def bad_end():
            yield
            check()

        def test_fail(): pytest.fail("no")
        def test_setup(bad): pass
        def test_teardown(bad_end): pass
        def test_group(): asyncio.run(check_in_a_group())
        @pytest.mark.asyncio
        async def test_asyncio(): await check_later()

        def test_thread():
            with ThreadPoolExecutor(1) as pool:
                pool.submit(check).result()

        def test_cause():
            try:
                check()
            except AssertionError as error:
                raise ValueError from error

        def test_context():
            try:
                check()
            finally:
                raise ValueError

        def test_stored():
            try:
                check()
            except AssertionError as caught:
                error = caught
            raise error
        """
    )
    run_gencore("-p", "asyncio", *ON_RAISE, "--gencore-max-cores=20").assert_outcomes(
        failed=9, errors=2, passed=1
    )
    assert find_moments() == {
        "TestCase::test_equal call": "AssertionError raised",
        "TestAsync::test_later call": "AssertionError raised",
        "test_fail call": "Failed raised",
        "test_setup setup": "AssertionError raised",
        "test_teardown teardown": "AssertionError raised",
        "test_group call": "AssertionError raised",
        "test_asyncio call": "AssertionError raised",
        "test_thread call": "AssertionError raised",
        "test_cause call": "AssertionError raised",
        "test_context call": "AssertionError raised",
        "test_stored call": "AssertionError raised",
    }


def test_caught(pytester: pytest.Pytester, run_gencore: RunGencore, find_moments: Moments) -> None:
    """An exception that a test catches is none of its failure, and keeps nobody else from a capture."""
    pytester.makepyfile(
        test_a="""
        import pytest

        def check(value): assert value

        def test_passes():
            with pytest.raises(AssertionError):
                check(0)

        def test_fails_later():
            with pytest.raises(AssertionError):
                check(0)
            assert 1 == 2

        def test_tries_again():
            for _ in range(5):  # each is likely to have the address of the one before
                try:
                    check(0)
                except AssertionError:
                    pass
            check(0)

        def test_hides_it():
            try:
                check(0)
            except AssertionError:
                raise ValueError from None

        @pytest.mark.xfail
        def test_expected(): check(0)

        def test_other_type(): raise ValueError
        """
    )
    result = run_gencore(*ON_RAISE)
    result.assert_outcomes(passed=1, failed=4, xfailed=1)
    assert find_moments() == {
        "test_fails_later call": "failed",
        "test_tries_again call": "failed",
        "test_hides_it call": "failed",
        "test_other_type call": "failed",
    }
    result.stdout.no_fnmatch_line("*not captured*")


def test_types_of_the_marker(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_moments: Moments
) -> None:
    pytester.makepyfile(
        test_a="""
        import os
        import pytest

        class Mine(ValueError): pass

        @pytest.mark.gencore(moment="raise", raises=ValueError)
        def test_subclass():
            with pytest.raises(AssertionError):
                assert 0
            raise Mine

        @pytest.mark.gencore(moment="raise", raises=(KeyError, OSError))
        def test_tuple(): open("/nowhere/at/all")

        @pytest.mark.gencore(moment="raise", raises=KeyError)
        def test_other(): assert 0

        @pytest.mark.gencore(moment="raise", raises=KeyError)
        def test_library():
            assert os.environ.get("no such name") is None  # raised and caught there
            {}["no such name"]
        """
    )
    run_gencore("--gencore-filter=0x11").assert_outcomes(failed=4)
    assert find_moments() == {
        "test_subclass call": "test_a.Mine raised",
        "test_tuple call": "FileNotFoundError raised",
        "test_other call": "failed",
        "test_library call": "KeyError raised",
    }


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_reruns(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_moments: Moments, workers: list[str]
) -> None:
    """The first attempt that fails has the capture, also after one that caught its exception."""
    pytester.makepyfile(
        test_a="""
        import pytest

        attempts = []

        def test_always(): assert 0

        def test_third():
            attempts.append(0)
            with pytest.raises(AssertionError):
                assert 0
            if len(attempts) < 3:
                raise ValueError
        """
    )
    run_gencore(*ON_RAISE, "--reruns=2", *workers).assert_outcomes(failed=1, passed=1)
    assert find_moments() == {"test_always call": "AssertionError raised", "test_third call": "failed"}
