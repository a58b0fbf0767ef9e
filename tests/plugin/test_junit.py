"""The junit file names each archive at its test, and stays right otherwise."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from junit_file import Case, read_junit
from sample_runs import SAMPLE

if TYPE_CHECKING:
    from sample_runs import FindArchives, RunGencore


def read_cases(pytester: pytest.Pytester) -> dict[str, Case]:
    return {case.name: case for case in read_junit(pytester.path / "j.xml")}


@pytest.mark.slow(rows=1)
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_junit_of_reruns(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(
        test_a="attempts = []\ndef test_x():\n    attempts.append(0)\n    assert len(attempts) > 1"
    )
    result = run_gencore("--gencore-on-fail", "--reruns=1", "--junitxml=j.xml")
    assert result.ret == 0
    assert [len(case.attachments) for case in read_junit(pytester.path / "j.xml")] == [1, 1]


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(
    ("environ", "base"),
    [
        ({"GITLAB_CI": "true", "CI_PROJECT_DIR": "PATH"}, "."),
        ({"TF_BUILD": "True", "AGENT_TEMPDIRECTORY": "PATH"}, "results"),
    ],
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


@pytest.mark.slow
def test_junit_without_unsafe_paths(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("--gencore-on-fail", "--gencore-dir=cores [1]", "--junitxml=j.xml")
    assert read_cases(pytester)["test_bad"].attachments == ()
    result.stdout.fnmatch_lines(["junit: not attached, because of the characters in the path: *"])


@pytest.mark.slow
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


@pytest.mark.slow(rows=1)
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
