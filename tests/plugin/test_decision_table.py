"""Which reports ask for a capture: one test for each row of the table."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sample_runs import FindArchives, RunGencore


@dataclass(frozen=True)
class Row:
    """A sample file, the outcomes that pytest counts, and the captures: ``TEST PHASE``."""

    id: str
    source: str
    captured: list[str]
    outcomes: dict[str, int]
    args: list[str] = field(default_factory=list)


ROWS = [
    Row("assert", "def test_x(): assert 0", ["test_x call"], {"failed": 1}),
    Row("raise", "def test_x(): raise ValueError", ["test_x call"], {"failed": 1}),
    Row("sys_exit", "import sys\ndef test_x(): sys.exit(3)", ["test_x call"], {"failed": 1}),
    Row("pytest_fail", "import pytest\ndef test_x(): pytest.fail('no')", ["test_x call"], {"failed": 1}),
    Row("pass", "def test_x(): pass", [], {"passed": 1}),
    Row(
        "setup",
        """
        import pytest
        @pytest.fixture
        def broken(): raise ValueError
        def test_x(broken): pass
        """,
        ["test_x setup"],
        {"errors": 1},
    ),
    Row(
        "teardown",
        """
        import pytest
        @pytest.fixture
        def broken():
            yield
            raise ValueError
        def test_x(broken): pass
        """,
        ["test_x teardown"],
        {"passed": 1, "errors": 1},
    ),
    Row(
        "module_teardown",
        """
        import pytest
        @pytest.fixture(scope="module")
        def broken():
            yield
            raise ValueError
        def test_x(broken): pass
        def test_y(broken): pass
        """,
        ["test_y teardown"],
        {"passed": 2, "errors": 1},
    ),
    Row(
        "teardown_after_captured_call",
        """
        import pytest
        @pytest.fixture
        def broken():
            yield
            raise ValueError
        def test_x(broken): assert 0
        """,
        ["test_x call"],
        {"failed": 1, "errors": 1},
    ),
    Row(
        "xfail",
        """
        import pytest
        @pytest.mark.xfail
        def test_x(): assert 0
        def test_y(): pytest.xfail("known")
        """,
        [],
        {"xfailed": 2},
    ),
    Row("xpass", "import pytest\n@pytest.mark.xfail\ndef test_x(): pass", [], {"xpassed": 1}),
    Row(
        "xpass_strict",
        "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_x(): pass",
        [],
        {"failed": 1},
    ),
    Row(
        "xfail_raises_other",
        "import pytest\n@pytest.mark.xfail(raises=KeyError)\ndef test_x(): raise ValueError",
        ["test_x call"],
        {"failed": 1},
    ),
    Row(
        "skip",
        """
        import pytest, unittest
        @pytest.mark.skip
        def test_x(): assert 0
        def test_y(): pytest.skip("no")
        def test_z(): raise unittest.SkipTest
        """,
        [],
        {"skipped": 3},
    ),
    Row(
        "unittest",
        """
        import unittest
        class TestX(unittest.TestCase):
            def test_fail(self): self.fail("no")
            def test_error(self): raise ValueError
        """,
        ["TestX::test_fail call", "TestX::test_error call"],
        {"failed": 2},
    ),
    Row(
        "unittest_expected_failure",
        """
        import unittest
        class TestX(unittest.TestCase):
            @unittest.expectedFailure
            def test_x(self): self.fail("known")
        """,
        [],
        {"xfailed": 1},
    ),
    Row(
        "unittest_unexpected_success",
        """
        import unittest
        class TestX(unittest.TestCase):
            @unittest.expectedFailure
            def test_x(self): pass
        """,
        ["TestX::test_x call"],
        {"failed": 1},
    ),
    Row(
        "doctest",
        '''
        def function():
            """
            >>> 1 + 1
            3
            """
        ''',
        ["test_rows.function call"],
        {"failed": 1},
        ["--doctest-modules"],
    ),
    Row(
        "asyncio",
        "import pytest\n@pytest.mark.asyncio\nasync def test_x(): assert 0",
        ["test_x call"],
        {"failed": 1},
    ),
    Row(
        "anyio",
        """
        import pytest
        @pytest.fixture
        def anyio_backend(): return "asyncio"
        @pytest.mark.anyio
        async def test_x(): assert 0
        """,
        ["test_x call"],
        {"failed": 1},
    ),
    Row(
        "exception_in_thread",
        """
        import threading
        def test_x():
            def work(): raise ValueError
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        """,
        [],
        {"passed": 1},
    ),
    Row("debugger_left", "import bdb\ndef test_x(): raise bdb.BdbQuit", [], {"failed": 1}),
    Row(
        "reruns",
        """
        attempts = []
        def test_x():
            attempts.append(0)
            assert len(attempts) > 2
        """,
        ["test_x call"],
        {"passed": 1},
        ["--reruns=3"],
    ),
    Row(
        "reruns_in_vain",
        "def test_x(): assert 0",
        ["test_x call"],
        {"failed": 1},
        ["--reruns=2"],
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, row: Row
) -> None:
    pytester.makepyfile(test_rows=row.source)
    result = run_gencore("--gencore-on-fail", *row.args)
    outcomes = {
        name: count
        for name, count in result.parseoutcomes().items()
        if name not in ("warning", "warnings", "rerun")
    }
    outcomes = {"errors" if name == "error" else name: count for name, count in outcomes.items()}
    assert outcomes == row.outcomes
    assert sorted(find_archives()) == sorted(f"test_rows.py::{entry}" for entry in row.captured)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has exception groups since 3.11")
def test_exception_group(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(test_rows="def test_x(): raise ExceptionGroup('all', [ValueError()])")
    run_gencore("--gencore-on-fail")
    assert list(find_archives()) == ["test_rows.py::test_x call"]


@pytest.mark.parametrize("stop", ["raise KeyboardInterrupt", "pytest.exit('enough')"])
def test_what_stops_the_run_is_not_captured(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, stop: str
) -> None:
    pytester.makepyfile(test_rows=f"import pytest\ndef test_x(): {stop}")
    result = run_gencore("--gencore-on-fail")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert find_archives() == {}


def test_collection_error_is_not_captured(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(test_rows="import no_such_module")
    result = run_gencore("--gencore-on-fail")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert find_archives() == {}


SUBTESTS = {
    "fixture": """
        def test_x(subtests):
            for number in range(3):
                with subtests.test(number=number):
                    assert number == 0
    """,
    "unittest": """
        import unittest
        class TestX(unittest.TestCase):
            def test_x(self):
                for number in range(3):
                    with self.subTest(number=number):
                        assert number == 0
    """,
}


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="pytest has subtests since 9.0")
@pytest.mark.parametrize("kind", SUBTESTS)
def test_first_failing_subtest(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, kind: str
) -> None:
    pytester.makepyfile(test_rows=SUBTESTS[kind])
    result = run_gencore("--gencore-on-fail")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (name,) = find_archives()
    assert name.endswith("::test_x call")
    text = result.stdout.str()
    first, second = text.index("number=1"), text.index("number=2")
    assert first < text.index("core archive:") < second
    assert text.count("core archive:") == 1


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="pytest has subtests since 9.0")
def test_exit_in_a_subtest(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(
        test_rows="""
        import pytest
        def test_x(subtests):
            with subtests.test():
                pytest.exit("enough")
        """
    )
    run_gencore("--gencore-on-fail")
    assert find_archives() == {}


def test_only_marked_tests_without_the_option(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(
        test_rows="""
        import pytest
        @pytest.mark.gencore
        def test_marked(): assert 0
        @pytest.mark.gencore(enabled=False)
        def test_disabled(): assert 0
        def test_plain(): assert 0
        """
    )
    run_gencore("--strict-markers")
    assert list(find_archives()) == ["test_rows.py::test_marked call"]


def test_marker_switches_off(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(
        test_rows="""
        import pytest
        @pytest.mark.gencore(enabled=False)
        class TestX:
            def test_disabled(self): assert 0
            @pytest.mark.gencore
            def test_enabled(self): assert 0
        """
    )
    run_gencore("--gencore-on-fail")
    assert list(find_archives()) == ["test_rows.py::TestX::test_enabled call"]


def test_marker_added_while_running(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(
        test_rows="""
        import pytest
        def test_x(request):
            request.node.add_marker(pytest.mark.gencore)
            assert 0
        """
    )
    run_gencore()
    assert list(find_archives()) == ["test_rows.py::test_x call"]


def test_bad_marker_added_while_running_is_a_failed_capture(
    pytester: pytest.Pytester, run_gencore: RunGencore
) -> None:
    pytester.makepyfile(
        test_rows="""
        import pytest
        def test_x(request):
            request.node.add_marker(pytest.mark.gencore(methd="memory"))
            assert 0
        """
    )
    result = run_gencore()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["no core archive: *unknown keyword 'methd'*", "failed: *unknown keyword 'methd'*"]
    )
