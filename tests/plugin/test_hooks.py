"""The hooks for other plugins, and the fixture."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sample_runs import FindArchives, RunGencore

SAMPLE = "def test_ok(): pass\ndef test_bad(): assert 0\ndef test_worse(): raise ValueError"


def test_should_capture_overrides_in_both_directions(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    pytester.makeconftest(
        """
        def pytest_gencore_should_capture(item, report):
            return {"test_bad": False, "test_ok": True}.get(item.name)
        """
    )
    run_gencore("--gencore-on-fail")
    assert list(find_archives()) == ["test_a.py::test_worse call"]


@pytest.mark.slow
def test_should_capture_needs_no_option(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    pytester.makeconftest("def pytest_gencore_should_capture(item):\n    return 'worse' in item.name")
    run_gencore()
    assert list(find_archives()) == ["test_a.py::test_worse call"]


def test_should_capture_is_asked_for_failed_reports_once_captured_not_again(
    pytester: pytest.Pytester, run_gencore: RunGencore
) -> None:
    pytester.makepyfile(
        test_a="""
        import pytest
        @pytest.fixture
        def broken():
            yield
            raise ValueError
        def test_x(broken): assert 0
        def test_ok(): pass
        """
    )
    pytester.makeconftest(
        """
        def pytest_gencore_should_capture(item, report):
            with open("asked.txt", "a") as file:
                print(item.name, report.when, report.outcome, file=file)
        """
    )
    run_gencore("--gencore-on-fail")
    assert (pytester.path / "asked.txt").read_text().splitlines() == ["test_x call failed"]


def test_should_capture_that_raises_is_a_failed_capture(
    pytester: pytest.Pytester, run_gencore: RunGencore
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    pytester.makeconftest("def pytest_gencore_should_capture(item):\n    raise RuntimeError('mistake')")
    result = run_gencore("--gencore-on-fail")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["failed: unexpected RuntimeError: mistake"])


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_captured(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, workers: list[str]
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    pytester.makeconftest(
        """
        import json
        def pytest_gencore_captured(config, nodeid, archive):
            assert not hasattr(config, "workerinput")
            with open("captured.jsonl", "a") as file:
                print(json.dumps([nodeid, str(archive), archive.is_file()]), file=file)
        """
    )
    run_gencore("--gencore-on-fail", *workers)
    captured = [json.loads(line) for line in (pytester.path / "captured.jsonl").read_text().splitlines()]
    expected = [[name.split()[0], str(path), True] for name, path in find_archives().items()]
    assert sorted(captured) == sorted(expected)
    assert len(captured) == 2


def test_captured_that_raises_is_noted(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    pytester.makeconftest("def pytest_gencore_captured():\n    raise RuntimeError('mistake')")
    result = run_gencore("--gencore-on-fail")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        ["2 captured", "hook pytest_gencore_captured failed: unexpected RuntimeError: mistake"]
    )


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
def test_fixture(
    pytester: pytest.Pytester, run_gencore: RunGencore, workers: list[str], request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--fake-engine"):
        pytest.skip("needs the real engine")
    pytester.makepyfile(
        test_a="""
        def test_ok(gencore):
            core = gencore.create_core()
            gencore.collect_core()
            with core.result(60).open("rb") as file:
                assert file.read(4) == b"\\x7fELF"
        """
    )
    result = run_gencore("--gencore-dir=cores", "--junitxml=j.xml", *workers)
    result.assert_outcomes(passed=1)
    (archive,) = (pytester.path / "cores").glob("*.tar.gz")
    result.stdout.fnmatch_lines(["1 captured", f"cores/{archive.name}  *test_a.py::test_ok*"])
    assert f"[[ATTACHMENT|{archive}]]" in (pytester.path / "j.xml").read_text()


@pytest.mark.slow
def test_summary_and_manifest_agree_on_the_phase(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    """A capture on request belongs to the phase that asked for it, not to the report that carries it."""
    pytester.makepyfile(
        test_a="""
        import pytest
        @pytest.fixture
        def ask_early(gencore): gencore.collect_core()
        @pytest.fixture
        def ask_late(gencore):
            yield
            gencore.collect_core()
        def test_setup(ask_early): pass
        def test_call(gencore): gencore.collect_core()
        def test_teardown(ask_late): pass
        """
    )
    pytester.makeconftest(
        """
        import json
        def pytest_runtest_logreport(report):
            for entry in getattr(report, "gencore", ()):
                with open("phases.txt", "a") as file:
                    print(report.nodeid, entry["phase"], file=file)
        """
    )
    result = run_gencore(fake="")
    result.assert_outcomes(passed=3)
    phases = ["setup", "call", "teardown"]
    subjects = {f"test_a.py::test_{phase} {phase}" for phase in phases}
    assert set(find_archives()) == subjects
    assert set((pytester.path / "phases.txt").read_text().splitlines()) == subjects
    result.stdout.fnmatch_lines_random([f"*test_a.py::test_{phase} ({phase})*" for phase in phases])
