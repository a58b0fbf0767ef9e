"""Workers capture, the controller shows: in every way to distribute tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest
from junit_file import read_junit
from projects import QUICK

if TYPE_CHECKING:
    from projects import Project
    from sample_runs import FindArchives, RunGencore

SAMPLE = """
    import pytest
    @pytest.mark.xdist_group("group")
    @pytest.mark.parametrize("number", range(6))
    def test_x(number):
        assert number % 3
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["load", "loadscope", "loadfile", "loadgroup", "worksteal"])
def test_modes(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, mode: str
) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("-n2", f"--dist={mode}", "--gencore-on-fail", "--junitxml=j.xml")
    result.assert_outcomes(passed=4, failed=2)
    archives = find_archives()
    names = {name.replace("@group", "") for name in archives}
    assert names == {f"test_a.py::test_x[{number}] call" for number in (0, 3)}
    attached = [path for case in read_junit(pytester.path / "j.xml") for path in case.attachments]
    assert sorted(attached) == sorted(map(str, archives.values()))
    result.stdout.fnmatch_lines(["2 captured"])


@pytest.mark.slow
def test_each(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("--dist=each", "--tx=2*popen", "--gencore-on-fail", "--junitxml=j.xml")
    result.assert_outcomes(passed=8, failed=4)
    archives = list((pytester.path / "gencore-artifacts").glob("*.tar.gz"))
    assert len(archives) == 4
    assert len({path.name.split(".")[2] for path in archives}) == 2, "two processes"
    result.stdout.fnmatch_lines(["4 captured"])
    attached = {path for case in read_junit(pytester.path / "j.xml") for path in case.attachments}
    assert attached == set(map(str, archives))


def test_worker_is_named(
    pytester: pytest.Pytester,
    run_gencore: RunGencore,
    find_archives: FindArchives,
    request: pytest.FixtureRequest,
) -> None:
    if request.config.getoption("--fake-engine"):
        pytest.skip("needs the real engine")
    pytester.makepyfile(test_a="def test_x(): assert 0")
    run_gencore("-n1", "--gencore-on-fail")
    (archive,) = find_archives().values()
    assert read_manifest(archive)["worker_id"] == "gw0"


@pytest.mark.slow
def test_relative_directory_is_resolved_by_the_controller(
    pytester: pytest.Pytester, run_gencore: RunGencore
) -> None:
    pytester.makepyfile(test_a="def test_x(): assert 0")
    pytester.makeconftest("import os\ndef pytest_collection_finish():\n    os.chdir('/')")
    run_gencore("-n1", "--gencore-on-fail", "--gencore-dir=cores")
    assert len(list((pytester.path / "cores").glob("*.tar.gz"))) == 1


def test_archive_of_a_worker_that_died(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(
        test_a="""
        import os, pytest
        @pytest.mark.gencore
        def test_x(): assert 0
        """
    )
    pytester.makeconftest(
        """
        import os, pytest
        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_teardown():
            os._exit(7)
            yield
        """
    )
    result = run_gencore("-n1", "--max-worker-restart=0")
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed*", "1 captured", "gencore-artifacts/*test_x (call)"])


def test_short_summary_of_a_crash_is_that_of_pytest(project: Project) -> None:
    """On CI pytest repeats there the whole text of such a report."""
    project.write(test_a="import ctypes\ndef test_crashes(): ctypes.string_at(8)")

    def find_summary(*arguments: str) -> list[str]:
        ended = project.run("-n1", *arguments, environment={"CI": "true"})
        return ended.out.partition("short test summary info")[2].splitlines()[1:-1]

    captured = find_summary(*QUICK)
    assert captured == find_summary("-p", "no:gencore")
    assert len(captured) == 1


@pytest.mark.slow(rows=2)
@pytest.mark.parametrize("marker", ["gencore(5)", "gencore(unknown=1)", "gencore(method='gdb')"])
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_bad_marker_is_a_usage_error(
    pytester: pytest.Pytester, run_gencore: RunGencore, marker: str, workers: list[str]
) -> None:
    pytester.makepyfile(test_a=f"import pytest\n@pytest.mark.{marker}\ndef test_x(): pass")
    result = run_gencore(*workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: gencore: *from marker on test test_a.py::test_x*"])


@pytest.mark.slow
def test_first_failure_stops_the_run(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a=SAMPLE)
    result = run_gencore("-n2", "-x", "--gencore-on-fail", "--junitxml=j.xml")
    assert result.ret in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)
    archives = set(map(str, (pytester.path / "gencore-artifacts").glob("*.tar.gz")))
    attached = {path for case in read_junit(pytester.path / "j.xml") for path in case.attachments}
    assert attached
    assert attached <= archives
    result.stdout.fnmatch_lines([f"{len(archives)} captured"])


@pytest.mark.slow
def test_worker_that_cannot_capture(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    """The others can: that is not told of all."""
    pytester.makeconftest(
        "import os, sys\nif os.environ.get('PYTEST_XDIST_WORKER') == 'gw1':\n    sys.executable = ''\n"
    )
    pytester.makepyfile(
        test_a="import pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_x(n): assert 0\n"
    )

    result = run_gencore("--gencore-on-fail", "-n2", "--dist=each", "--gencore-libraries=none")

    result.stdout.fnmatch_lines(["worker gw1 could not capture: the Python interpreter cannot be started *"])
    result.stdout.no_fnmatch_line("*no capture is possible*")
