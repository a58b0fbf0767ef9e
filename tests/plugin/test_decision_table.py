"""Which reports ask for a capture: one test for each row of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from decision_rows import MARKER_ROWS, RERUN_ROWS, ROWS, Row
from projects import QUICK
from tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from sample_runs import FindArchives, RunGencore

pytestmark = pytest.mark.xdist_group("decision table")

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
                for number in range(10, 13):
                    with self.subTest(number=number):
                        assert number == 10
    """,
}


@pytest.fixture(scope="module")
def make_table(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[..., Table]:
    """Run rows together."""
    fake = bool(request.config.getoption("--fake-engine"))

    def make(rows: list[Row], *arguments: str) -> Table:
        sources = {row.id: row.source for row in rows}
        return Table(tmp_path_factory.mktemp("table"), sources, *arguments, fake=fake)

    return make


def check(table: Table, row: Row) -> None:
    """The outcomes are those without the plugin, and what is to be captured is."""
    assert table.counts(row.id) == row.outcomes
    assert sorted(table.archives(row.id)) == sorted(row.captured)


@pytest.fixture(scope="module")
def plain_table(make_table: Callable[..., Table]) -> Table:
    return make_table(ROWS, *QUICK, "-p", "anyio", "-p", "asyncio", "--doctest-modules")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(plain_table: Table, row: Row) -> None:
    check(plain_table, row)


@pytest.fixture(scope="module")
def rerun_table(make_table: Callable[..., Table]) -> Table:
    return make_table(RERUN_ROWS, *QUICK, "--reruns=3")


@pytest.mark.parametrize("row", RERUN_ROWS, ids=lambda row: row.id)
def test_reruns(rerun_table: Table, row: Row) -> None:
    check(rerun_table, row)


@pytest.fixture(scope="module")
def marker_table(make_table: Callable[..., Table]) -> Table:
    """Without the option."""
    return make_table(MARKER_ROWS, "--strict-markers", "--gencore-filter=0x11")


@pytest.mark.parametrize("row", MARKER_ROWS, ids=lambda row: row.id)
def test_markers(marker_table: Table, row: Row) -> None:
    check(marker_table, row)


def test_bad_marker_added_while_running_is_a_failed_capture(marker_table: Table) -> None:
    out = marker_table.ended.out
    lines = out.splitlines()
    problem = "unknown keyword 'methd'"
    assert [line for line in lines if line.startswith("no core archive: ") and problem in line]
    assert [line for line in lines if line.startswith("failed: ") and problem in line]


@pytest.fixture(scope="module")
def subtest_table(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Table:
    fake = bool(request.config.getoption("--fake-engine"))
    return Table(tmp_path_factory.mktemp("table"), SUBTESTS, fake=fake)


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="pytest has subtests since 9.0")
@pytest.mark.parametrize(("kind", "first", "second"), [("fixture", 1, 2), ("unittest", 11, 12)])
def test_first_failing_subtest(subtest_table: Table, kind: str, first: int, second: int) -> None:
    assert subtest_table.ended.status == pytest.ExitCode.TESTS_FAILED
    ((name, archive),) = subtest_table.archives(kind).items()
    assert name.endswith("test_x call")
    text = subtest_table.ended.out
    told = f"core archive: gencore-artifacts/{archive.name}"
    assert text.index(f"number={first}") < text.index(told) < text.index(f"number={second}")
    assert text.count(told) == 1
    assert text.count("core archive:") == len(SUBTESTS)


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
