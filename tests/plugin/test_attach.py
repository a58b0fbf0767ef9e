"""Where people look: report and terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest, read_member
from sample_runs import SAMPLE

if TYPE_CHECKING:
    from sample_runs import FindArchives, RunGencore


def test_reports_hold_plain_data(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    pytester.makeconftest(
        """
        import json
        def pytest_runtest_logreport(report):
            with open("reports.jsonl", "a") as file:
                facts = [report.nodeid, report.when, getattr(report, "gencore", None), report.user_properties]
                file.write(json.dumps(facts) + "\\n")
        """
    )
    run_gencore("--gencore-on-fail")
    lines = (pytester.path / "reports.jsonl").read_text().splitlines()
    reports = {
        (nodeid, when): (entries, properties) for nodeid, when, entries, properties in map(json.loads, lines)
    }
    archive = str(find_archives()["test_a.py::test_bad call"])
    entries, properties = reports["test_a.py::test_bad", "call"]
    assert [set(entry) for entry in entries] == [{"path", "trigger", "method", "pid", "phase", "url"}]
    assert (entries[0]["path"], entries[0]["trigger"]) == (archive, "failure")
    assert f".{entries[0]['pid']}." in archive
    assert read_manifest(Path(archive))["trigger"]["exception"] == "AssertionError"
    assert properties == [["gencore", archive]]
    assert reports["test_a.py::test_bad", "teardown"] == (None, [["gencore", archive]])
    assert reports["test_a.py::test_ok", "call"] == (None, [])


def test_terminal(pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("--gencore-on-fail")
    archive = find_archives()["test_a.py::test_bad call"]
    result.stdout.fnmatch_lines(
        [
            "gencore: on failure, method auto, archives in gencore-artifacts",
            "*- gencore -*",
            f"core archive: gencore-artifacts/{archive.name}",
            "*= gencore =*",
            "2 captured",
            f"gencore-artifacts/{archive.name}  * *B  test_a.py::test_bad (call)",
            "gencore-artifacts/*  * *B  test_a.py::test_worse (call)",
            "FAILED test_a.py::test_bad*",
        ]
    )


def test_nothing_to_tell(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a="def test_ok(): pass")
    result = run_gencore("--gencore-on-fail")
    result.stdout.no_fnmatch_line("*= gencore =*")
    assert not (pytester.path / "gencore-artifacts").exists()


def test_failure_text_has_locals(
    pytester: pytest.Pytester,
    run_gencore: RunGencore,
    find_archives: FindArchives,
    request: pytest.FixtureRequest,
) -> None:
    if request.config.getoption("--fake-engine"):
        pytest.skip("needs the real engine")
    pytester.makepyfile(test_a=SAMPLE)
    run_gencore("--gencore-on-fail")
    text = read_member(find_archives()["test_a.py::test_bad call"], "failure.txt").decode()
    assert "marker_of_the_test = 'here'" in text
    assert "assert 'here' == 'there'" in text
    assert "pluggy" not in text


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_capture_that_fails_says_why(
    pytester: pytest.Pytester, run_gencore: RunGencore, workers: list[str]
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("--gencore-on-fail", *workers, fake="error")
    result.assert_outcomes(passed=1, failed=2)
    lines = result.stdout.lines
    reason = "core_pattern is a pipe (use another machine)"
    assert lines.count(f"no core archive: {reason}") == 2
    assert lines.count(f"failed: {reason}") == 1
    assert "2 failed" in lines
    assert "    test_a.py::test_bad (call)" in lines


def test_unexpected_error_in_a_capture(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("--gencore-on-fail", fake="bug")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["failed: unexpected ZeroDivisionError: oops"])


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_capture_is_impossible(
    pytester: pytest.Pytester, run_gencore: RunGencore, workers: list[str]
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("--gencore-on-fail", *workers, fake="unavailable")
    result.assert_outcomes(passed=1, failed=2)
    reason = "no capture is possible: no extension (install a wheel)"
    assert result.stdout.lines.count(f"gencore: {reason}") == 1
    assert result.stdout.lines.count(reason) == 1
    assert not (pytester.path / "gencore-artifacts").exists()


def test_waiting_is_shown(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("--gencore-on-fail", fake="slow")
    lines = result.stdout.lines
    assert (
        len([line for line in lines if line.startswith("gencore: writing core archives, 0 of 2 finished")])
        == 1
    )
    assert "gencore: 2 captured" in lines


def test_internal_error_of_another_plugin(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    pytester.makeconftest(
        "def pytest_runtest_logfinish(nodeid):\n    if 'bad' in nodeid: raise RuntimeError('other')"
    )
    with pytest.raises(pytest.fail.Exception):
        run_gencore("--gencore-on-fail", fake="done")
    output = (pytester.path / "stdout").read_text() if (pytester.path / "stdout").exists() else ""
    assert "1 captured" in output


def test_relative_directory_is_that_of_the_invocation(
    pytester: pytest.Pytester, run_gencore: RunGencore
) -> None:
    below = pytester.mkdir("below")
    pytester.makepyfile(test_a=SAMPLE)
    pytester.makeini("[pytest]")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(below)
        result = run_gencore("--gencore-on-fail", "--gencore-dir=cores", "..")
    assert len(list(Path(below / "cores").glob("*.tar.gz"))) == 2
    result.stdout.fnmatch_lines(["cores/core_*.tar.gz  *"])


FLAKY = """
    runs = []
    def test_flaky():
        runs.append(1)
        assert len(runs) > 1
"""


@pytest.mark.slow(rows=1)
@pytest.mark.field
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), 1),
        (("--show-capture=no",), 1),
        (("--show-capture=log",), 1),
        (("--tb=no",), 1),
        (("--tb=line",), 1),
        (("--reruns=1",), 0),
        (("--reruns=1", "-n1"), 0),
        (("-n1", "--tb=no"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_stacks_are_in_the_log_once(
    pytester: pytest.Pytester, run_gencore: RunGencore, options: tuple[str, ...], status: int
) -> None:
    """In the section of the report, or, where pytest does not show that, in the summary."""
    pytester.makepyfile(test_a=FLAKY)
    result = run_gencore("--gencore-on-fail", *options)
    assert result.ret == status
    told = [
        line for line in result.outlines if line.startswith("Thread MainThread, ") and "ran the test" in line
    ]
    assert len(told) == 1, told
    assert len([line for line in result.outlines if line.startswith("failed: test_a.py::test_flaky")]) == 1
    result.stdout.fnmatch_lines(["*assert len(runs) > 1", "1 captured"])
