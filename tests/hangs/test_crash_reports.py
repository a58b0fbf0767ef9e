"""What others say of a crash: the controller's reports, the junit files, the counts."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_manifest
from junit_file import read_junit
from projects import QUICK

if TYPE_CHECKING:
    from projects import Project

pytestmark = pytest.mark.field

CRASH_AMONG_OTHERS = """
    import ctypes
    def test_1(): pass
    def test_2(): pass
    def test_3(): ctypes.string_at(8)
    def test_4(): pass
    def test_5(): pass
"""


def test_junit_of_a_run_that_crashed(project: Project) -> None:
    """pytest could not write it: the collector does, with the tests so far."""
    project.write(test_a=CRASH_AMONG_OTHERS)

    ended = project.run(*QUICK, "--junitxml=reports/j.xml")

    archive = project.only_archive()
    assert ended.announced() == [str(archive)]
    one, two, three = read_junit(project.folder / "reports" / "j.xml")
    assert [(case.name, case.results) for case in (one, two)] == [("test_1", ()), ("test_2", ())]
    assert (three.name, three.results) == ("test_3", ("error",))
    assert three.archives == three.attachments == (str(archive),)
    text = (project.folder / "reports" / "j.xml").read_text()
    assert 'tests="3"' in text
    assert 'errors="1"' in text
    assert "at address 0x8" in text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["loadfile", "loadscope", "loadgroup"])
def test_crash_that_every_new_worker_repeats(project: Project, mode: str) -> None:
    """Schedulers that keep a file together run the crashing test again on each replacement: one archive."""
    project.write(
        test_a="""
        import ctypes, pytest
        pytestmark = pytest.mark.xdist_group("group")
        def test_1(): pass
        def test_2(): ctypes.string_at(8)
        """,
        test_b="def test_3(): pass",
    )

    ended = project.run("-n2", f"--dist={mode}", "--max-worker-restart=2", "--junitxml=j.xml", *QUICK)

    assert ended.status != 0
    archive = project.only_archive()
    crashes = re.findall(r"^worker 'gw\d+' crashed while running 'test_a.py::test_2", ended.out, re.MULTILINE)
    assert crashes
    assert "1 captured" in ended.out
    assert "without a capture" not in ended.out
    repeated = len(crashes) - 1
    if repeated:
        assert (
            f"{repeated} not captured: each test, and what is outside of tests, is captured once a run "
            "for each kind: failure, hang, crash, cancel" in ended.out
        )
    cases = [
        case
        for case in read_junit(project.folder / "j.xml")
        if case.name.startswith("test_2") and case.results
    ]
    assert len(cases) == len(crashes)
    assert all(case.archives == case.attachments == (str(archive),) for case in cases)


@pytest.mark.slow
def test_each(project: Project) -> None:
    """Every worker runs every test, so each has its crash."""
    project.write(test_a="import ctypes\ndef test_1(): pass\ndef test_2(): ctypes.string_at(8)")

    ended = project.run("--dist=each", "--tx=2*popen", *QUICK)

    archives = project.find_archives()
    manifests = [read_manifest(archive) for archive in archives]
    assert {(manifest["nodeid"], manifest["worker_id"]) for manifest in manifests} == {
        ("test_a.py::test_2", "gw0"),
        ("test_a.py::test_2", "gw1"),
    }
    assert len(archives) == 2
    assert "2 captured" in ended.out
    for archive in archives:
        assert re.search(
            rf"^gencore-artifacts/{archive.name} .*SIGSEGV .* at address 0x8", ended.out, re.MULTILINE
        )


def test_killed_worker_says_why_there_is_no_archive(project: Project) -> None:
    project.write(
        test_a="""
        import os, signal
        def test_1(): os.kill(os.getpid(), signal.SIGKILL)
        def test_2(): pass
        def test_3(): os._exit(7)
        """
    )

    ended = project.run("-n1", *QUICK)

    assert ended.counts() == {"failed": 2, "passed": 1}
    assert not project.find_archives()
    assert (
        "gencore: no core archive: the worker: killed from outside or by itself, not for want of memory"
        in ended.out
    )
    assert "gencore: no core archive: the worker ended with status 7, not by a signal" in ended.out


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
def test_rerun_of_a_crash(project: Project, workers: list[str]) -> None:
    """pytest-rerunfailures runs it again in another worker, and it crashes again: one archive."""
    project.write(test_a="import ctypes\ndef test_1(): ctypes.string_at(8)\ndef test_2(): pass")

    ended = project.run(*workers, *QUICK, "--reruns=1", "--max-worker-restart=4")

    assert read_manifest(project.only_archive())["nodeid"] == "test_a.py::test_1"
    if workers:
        assert ended.counts()["passed"] == 1
        assert "1 captured" in ended.out
        assert "without a capture" not in ended.out
    else:
        assert ended.status == -11


@pytest.mark.slow
def test_two_crashes_of_one_run_have_two_archives(project: Project) -> None:
    """The second test crashes in the worker that replaced the first one's."""
    project.write(
        test_a="""
        import ctypes, os, pytest
        @pytest.mark.parametrize("death", [lambda: ctypes.string_at(8), os.abort], ids=["segv", "abrt"])
        def test_1(death): death()
        """
    )

    ended = project.run("-n1", *QUICK, "--junitxml=j.xml")

    archives = project.archives()
    assert sorted(archives) == ["test_a.py::test_1[abrt] call", "test_a.py::test_1[segv] call"]
    attached = [case.attachments for case in read_junit(project.folder / "j.xml")]
    assert sorted(attached) == sorted((str(archive),) for archive in archives.values())
    assert "2 captured" in ended.out


@pytest.mark.slow
def test_failure_and_crash_in_one_run(project: Project) -> None:
    """A worker that failed a test and crashed in the next: each report has its own archive."""
    project.write(test_a="import ctypes\ndef test_1(): assert 0\ndef test_2(): ctypes.string_at(8)")

    ended = project.run("-n1", *QUICK, "--junitxml=j.xml")

    assert ended.counts() == {"failed": 2}
    archives = project.archives()
    for case in read_junit(project.folder / "j.xml"):
        name = "test_1" if "failure" in case.results else "test_2"
        assert case.attachments == (str(archives[f"test_a.py::{name} call"]),)


def test_locally_crash_after_a_failure(project: Project) -> None:
    """No summary is ever printed: the collector of the crash tells its own archive; both are whole."""
    project.write(test_a="import ctypes\ndef test_1(): assert 0\ndef test_2(): ctypes.string_at(8)")

    ended = project.run(*QUICK, "--junitxml=j.xml")

    archives = project.archives()
    assert ended.announced() == [str(archives["test_a.py::test_2 call"])]
    one, two = read_junit(project.folder / "j.xml")
    assert one.results == ("failure",)
    assert one.archives == (str(archives["test_a.py::test_1 call"]),)
    assert two.archives == (str(archives["test_a.py::test_2 call"]),)


@pytest.mark.slow
def test_module_that_crashes_every_worker(project: Project) -> None:
    """At its import, so no test is to blame: captured once, and the log has the stack."""
    project.write(test_a="import ctypes\nctypes.string_at(8)\ndef test_x(): pass\n")

    ended = project.run("-n2", "--max-worker-restart=3", *QUICK)

    assert ended.status != 0
    assert len(project.find_archives()) == 1
    assert "ctypes.string_at(8)" in ended.out
    assert ended.out.count("MiB  collection of test_a.py") == 1


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_conftest_that_crashes(project: Project, workers: list[str]) -> None:
    """Before pytest is configured; the controller imports it before there are workers."""
    project.write(conftest="import ctypes\nctypes.string_at(8)\n", test_a="def test_x(): pass\n")

    ended = project.run(*workers, *QUICK)

    assert ended.status == -signal.SIGSEGV
    assert "in import of conftest.py files, process" in ended.err
    assert "ctypes.string_at(8)" in ended.err
    assert ended.announced() == [str(project.only_archive())]


FATAL = """
    import ctypes
    def test_fatal():
        ctypes.pythonapi.Py_FatalError(b"the cache is corrupt")
"""


def test_fatal_error_of_python(project: Project) -> None:
    """It disables faulthandler first, so Python cannot say where its threads are; that is not "no frame"."""
    project.write(test_a=FATAL)

    ended = project.run(*QUICK)

    assert ended.status == -signal.SIGABRT
    assert re.search(
        r"^Thread MainThread, .* crashed, .*\n  Python frames not known$", ended.err, re.MULTILINE
    )
    assert "no Python frame" not in ended.err


@needs("pystack")
@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
def test_fatal_error_of_python_with_pystack(project: Project, workers: list[str]) -> None:
    """What pystack reads comes later, and is told as well."""
    project.write(test_a=FATAL)

    ended = project.run(*workers, *QUICK, pystack=True)

    assert ended.status == (1 if workers else -signal.SIGABRT)
    told = ended.out if workers else ended.err
    assert ", in test_fatal\n    ctypes.pythonapi.Py_FatalError" in told
