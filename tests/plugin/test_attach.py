"""Where people look: report, terminal, junit file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest, read_member
from junit_file import Case, read_junit

if TYPE_CHECKING:
    from sample_runs import FindArchives, RunGencore

SAMPLE = """
    import pytest
    def test_ok(): pass
    def test_bad():
        marker_of_the_test = "here"
        assert marker_of_the_test == "there"
    def test_worse(): raise ValueError
"""


def read_cases(pytester: pytest.Pytester) -> dict[str, Case]:
    return {case.name: case for case in read_junit(pytester.path / "j.xml")}


@pytest.mark.parametrize("logging", ["no", "system-out", "log", "out-err", "all"])
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_junit_has_exactly_the_failing_cases(
    pytester: pytest.Pytester,
    run_gencore: RunGencore,
    find_archives: FindArchives,
    logging: str,
    workers: list[str],
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("--gencore-on-fail", "--junitxml=j.xml", f"-ojunit_logging={logging}", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    archives = find_archives()
    cases = read_cases(pytester)
    assert set(archives) == {"test_a.py::test_bad call", "test_a.py::test_worse call"}
    assert cases["test_ok"].archives == cases["test_ok"].attachments == ()
    for name in ("test_bad", "test_worse"):
        path = str(archives[f"test_a.py::{name} call"])
        assert cases[name].archives == cases[name].attachments == (path,)
        assert cases[name].output.splitlines()[-1] == f"[[ATTACHMENT|{path}]]"


def test_junit_of_every_phase(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(
        test_a="""
        import pytest
        @pytest.fixture
        def bad_setup(): raise ValueError
        @pytest.fixture
        def bad_teardown():
            yield
            raise ValueError
        def test_setup(bad_setup): pass
        def test_teardown(bad_teardown): pass
        def test_both(bad_teardown): assert 0
        """
    )
    run_gencore("--gencore-on-fail", "--junitxml=j.xml", "-ojunit_logging=all")
    archives = find_archives()
    cases = read_junit(pytester.path / "j.xml")
    assert [(case.name, len(case.attachments)) for case in cases] == [
        ("test_setup", 1),
        ("test_teardown", 1),
        ("test_both", 1),
        ("test_both", 1),
    ]
    assert {path for case in cases for path in case.archives} == set(map(str, archives.values()))


def test_junit_of_reruns(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(
        test_a="attempts = []\ndef test_x():\n    attempts.append(0)\n    assert len(attempts) > 1"
    )
    result = run_gencore("--gencore-on-fail", "--reruns=1", "--junitxml=j.xml")
    assert result.ret == 0
    assert [len(case.attachments) for case in read_junit(pytester.path / "j.xml")] == [1, 1]


@pytest.mark.parametrize(
    ("environ", "base"),
    [({"GITLAB_CI": "true", "CI_PROJECT_DIR": "PATH"}, "."), ({"TF_BUILD": "True"}, "results")],
    ids=["gitlab", "azure"],
)
def test_junit_paths_of_ci_systems(
    pytester: pytest.Pytester,
    run_gencore: RunGencore,
    find_archives: FindArchives,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    base: str,
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    for name, value in environ.items():
        monkeypatch.setenv(name, value.replace("PATH", str(pytester.path)))
    run_gencore("--gencore-on-fail", "--junitxml=results/j.xml")
    cases = {case.name: case for case in read_junit(pytester.path / "results/j.xml")}
    archive = find_archives()["test_a.py::test_bad call"]
    assert cases["test_bad"].attachments == (os.path.relpath(archive, pytester.path / base),)
    assert cases["test_bad"].archives == (str(archive),)


def test_junit_without_unsafe_paths(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("--gencore-on-fail", "--gencore-dir=cores [1]", "--junitxml=j.xml")
    assert read_cases(pytester)["test_bad"].attachments == ()
    result.stdout.fnmatch_lines(["junit: not attached, because of the characters in the path: *"])


def test_junit_permissions_and_link_stay(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    target = pytester.path / "target.xml"
    target.touch()
    target.chmod(0o640)
    link = pytester.path / "j.xml"
    link.symlink_to(target)
    run_gencore("--gencore-on-fail", "--junitxml=j.xml")
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert len(read_cases(pytester)["test_bad"].attachments) == 1
    assert list(pytester.path.glob(".j.xml*")) == list(pytester.path.glob(".target.xml*")) == []


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
    assert [set(entry) for entry in entries] == [{"path", "trigger", "method", "pid", "phase"}]
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
            f"gencore: on failure, method auto, archives in {pytester.path}/gencore-artifacts",
            "*- gencore -*",
            f"core archive: {archive}",
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


def test_html_link(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    pytester.makeconftest(
        """
        import json
        def pytest_addoption(parser):
            parser.addoption("--html", dest="htmlpath")
        def pytest_configure(config):
            config.pluginmanager.register(object(), "html")
        def pytest_runtest_logreport(report):
            if report.failed and report.nodeid.endswith("test_bad"):
                with open("extras.json", "w") as file:
                    json.dump(report.extras, file)
        """
    )
    run_gencore("--gencore-on-fail", "--html=out/report.html")
    (extra,) = json.loads((pytester.path / "extras.json").read_text())
    assert extra["format_type"] == "url"
    assert (pytester.path / "out" / extra["content"]).resolve().parent == pytester.path / "gencore-artifacts"


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


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_collector_that_fails_corrects_everything(
    pytester: pytest.Pytester, run_gencore: RunGencore, workers: list[str]
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("--gencore-on-fail", "--junitxml=j.xml", *workers, fake="failed")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.no_fnmatch_line("core archive: *")
    result.stdout.fnmatch_lines(["no core archive: disk full", "2 failed", "failed: disk full"])
    assert {case.archives + case.attachments for case in read_cases(pytester).values()} == {()}


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


def test_broken_junit_file(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    pytester.makeconftest(
        """
        import pathlib, pytest
        @pytest.hookimpl(wrapper=True)
        def pytest_gencore_captured():
            pathlib.Path("j.xml").write_text("<broken")
            return (yield)
        """
    )
    result = run_gencore("--gencore-on-fail", "--junitxml=j.xml")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["junit: no attachments in *j.xml: *"])
    assert (pytester.path / "j.xml").read_text() == "<broken"


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
