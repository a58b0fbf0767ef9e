"""The rows of the decision table: which reports ask for a capture."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A sample file, the outcomes that pytest counts, and the captures: ``TEST PHASE``."""

    id: str
    source: str
    captured: list[str]
    outcomes: dict[str, int]


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
        ["test_doctest.function call"],
        {"failed": 1},
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
        "marker_switches_off",
        """
        import pytest
        @pytest.mark.gencore(enabled=False)
        class TestX:
            def test_disabled(self): assert 0
            @pytest.mark.gencore
            def test_enabled(self): assert 0
        """,
        ["TestX::test_enabled call"],
        {"failed": 2},
    ),
]
if sys.version_info >= (3, 11):
    ROWS.append(
        Row(
            "exception_group",
            "def test_x(): raise ExceptionGroup('all', [ValueError()])",
            ["test_x call"],
            {"failed": 1},
        )
    )
RERUN_ROWS = [
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
    ),
    Row(
        "reruns_in_vain",
        "def test_x(): assert 0",
        ["test_x call"],
        {"failed": 1},
    ),
]
MARKER_ROWS = [
    Row(
        "only_marked",
        """
        import pytest
        @pytest.mark.gencore
        def test_marked(): assert 0
        @pytest.mark.gencore(enabled=False)
        def test_disabled(): assert 0
        def test_plain(): assert 0
        """,
        ["test_marked call"],
        {"failed": 3},
    ),
    Row(
        "added_while_running",
        """
        import pytest
        def test_x(request):
            request.node.add_marker(pytest.mark.gencore)
            assert 0
        """,
        ["test_x call"],
        {"failed": 1},
    ),
    Row(
        "bad_one_added_while_running",
        """
        import pytest
        def test_x(request):
            request.node.add_marker(pytest.mark.gencore(methd="copy"))
            assert 0
        """,
        [],
        {"failed": 1},
    ),
]
