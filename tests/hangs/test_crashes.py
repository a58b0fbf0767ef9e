"""Crashes of every kind, at every moment: the core has the fault, and the process dies as without us."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from capabilities import both_methods, needs
from crash_table import ABRT, CRASHES, SEGV, Crash, write_crash
from gencore_archives import read_manifest, read_member
from junit_file import read_junit
from lean_runs import WITH_LIBRARIES
from oracles import run_gdb
from projects import ON_FAIL, OPENED, QUICK

if TYPE_CHECKING:
    from pathlib import Path

    from projects import Project


def check_core(project: Project, archive: Path, crash: Crash) -> str:
    """The core has signal, code and stack of the fault; return what gdb says of siginfo and stack."""
    folder = project.unpack(archive)
    text = run_gdb(
        folder,
        *("set width 0", "set print frame-arguments none", "echo @@\\n"),
        *("print $_siginfo.si_signo", "print $_siginfo.si_code", "bt 5"),
    ).partition("@@\n")[2]
    number, code, *frames = text.strip().splitlines()
    assert number == f"$1 = {int(crash.signal)}"
    if crash.code is not None:
        assert code == f"$2 = {crash.code}"
    assert re.search(crash.on_top, "\n".join(frames)), text
    assert "signal handler called" not in text
    return text


def check_text(err: str, crash: Crash) -> None:
    """Faulthandler has its say."""
    if crash.text:
        assert re.search(f"Fatal Python error: {crash.text}\n", err), err  # workers talk at the same time


def check_manifest(archive: Path, nodeid: str, crash: Crash) -> None:
    """The manifest tells what crashed, and when."""
    manifest = read_manifest(archive)
    assert (manifest["trigger"]["kind"], manifest["nodeid"], manifest["phase"]) == (
        "crash",
        nodeid,
        crash.phase,
    )


@pytest.mark.slow(rows=1)
@needs("gdb", "gcc")
@pytest.mark.parametrize("name", list(CRASHES))
def test_crash(project: Project, crashers: Path, name: str) -> None:
    crash = CRASHES[name]
    write_crash(project, crashers, name)

    ended = project.run(*OPENED)

    assert ended.status == -crash.signal
    check_text(ended.err, crash)
    archive = project.only_archive()
    assert ended.announced() == [str(archive)]
    summary = f"gencore: {crash.signal.name} ("
    assert summary in ended.err
    assert f"in test_{name}.py::test_x, {crash.phase}, process " in ended.err
    check_manifest(archive, f"test_{name}.py::test_x", crash)
    check_core(project, archive, crash)
    stacks = read_member(archive, "stacks.txt").decode()
    assert stacks.startswith(summary.removeprefix("gencore: "))
    if name not in ("setup", "teardown", "fatal"):
        assert ", in test_x\n" in stacks


@pytest.mark.slow(rows=1)
@needs("gdb")
@both_methods
def test_the_fault_itself(project: Project, crashers: Path, method: str) -> None:
    """Not what faulthandler makes of it when it raises the signal again."""
    write_crash(project, crashers, "string_at")

    ended = project.run(*ON_FAIL, WITH_LIBRARIES, f"--gencore-method={method}")

    assert ended.status == -SEGV
    archive = project.only_archive()
    assert read_manifest(archive)["method"] == method
    text = run_gdb(
        project.unpack(archive),
        *("echo @@\\n", "print $_siginfo.si_code", "print $_siginfo._sifields._sigfault.si_addr", "bt 1"),
    ).partition("@@\n")[2]
    code, address, top = text.strip().splitlines()[:3]
    assert (code, address) == ("$1 = 1", "$2 = (void *) 0x8")
    assert "strlen" in top


@pytest.mark.slow
@needs("gcc")
def test_crashes_of_workers(project: Project, crashers: Path) -> None:
    """All other tests run, and the junit file names each archive."""
    for name in CRASHES:
        write_crash(project, crashers, name)
    others = "\n".join(f"def test_other_{number}(): pass" for number in range(10))
    (project.folder / "test_others.py").write_text(others)

    ended = project.run("-n2", "--max-worker-restart=99", "--junitxml=j.xml", *OPENED)

    assert ended.status == 1
    counts = ended.counts()
    assert counts["failed"] == len(CRASHES)
    assert counts["passed"] in (10, 11), "the test with the crash in teardown may have passed"
    archives = project.archives()
    assert len(archives) == len(CRASHES)
    cases = {(element.archives, element.attachments) for element in read_junit(project.folder / "j.xml")}
    for name, crash in CRASHES.items():
        archive = archives[f"test_{name}.py::test_x {crash.phase}"]
        assert ((str(archive),), (str(archive),)) in cases
        assert f"gencore: core archive: {project.shown(archive)}" in ended.out
        assert re.search(
            rf"^gencore-artifacts/{archive.name}  .* test_{name}\.py::test_x \({crash.phase}\)  "
            rf"\[{crash.signal.name} \(.*, worker gw\d+, process \d+\]$",
            ended.out,
            re.MULTILINE,
        ), "the summary names test, worker, signal and address"
        check_text(ended.err, crash)
    assert f"{len(CRASHES)} captured" in ended.out
    assert not ended.announced(), "the controller tells"


def test_fatal_error(project: Project, crashers: Path) -> None:
    """It disables faulthandler just before it aborts; its own text is there."""
    write_crash(project, crashers, "fatal")

    ended = project.run(*QUICK, "-s")

    assert ended.status == -ABRT
    assert re.search("^Fatal Python error: .*all is lost$", ended.err, re.MULTILINE)
    assert ended.err.count("Fatal Python error") == 1
    assert ended.announced() == [str(project.only_archive())]


# ---- between tests -------------------------------------------------------------------------------------

COLLECTION = "import ctypes\nctypes.string_at(8)\n"
SESSION_END = """
    import ctypes
    class Broken:
        def __del__(self): ctypes.string_at(8)
    def pytest_configure(config):
        config.broken = Broken()
    def pytest_sessionfinish(session):
        if hasattr(session.config, "workerinput") or session.config.getoption("dist", "no") == "no":
            del session.config.broken
    def pytest_unconfigure(config):
        Broken.__del__ = lambda self: None
"""


@pytest.mark.slow(rows=2)
@pytest.mark.field
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
@pytest.mark.parametrize("moment", ["collection", "session end"])
def test_crash_outside_of_a_test(project: Project, moment: str, workers: list[str]) -> None:
    """Reported without a test; with xdist as far as that goes on."""
    project.write(test_a="def test_a(): pass")
    if moment == "collection":
        project.write(test_b=COLLECTION)
    else:
        project.write(conftest=SESSION_END)

    ended = project.run(*QUICK, *workers, *(["--max-worker-restart=0"] if workers else []))

    place = "collection of test_b.py" if moment == "collection" else "session end"
    archives = project.find_archives()
    assert archives
    for archive in archives:
        manifest = read_manifest(archive)
        assert (manifest["trigger"]["kind"], manifest["nodeid"], manifest["phase"]) == ("crash", None, None)
        assert manifest["place"] == place
        assert ", in __del__\n" in read_member(archive, "stacks.txt").decode() or moment == "collection"
    if workers:
        assert re.search(rf"^{len(archives)} captured", ended.out, re.MULTILINE)
        assert f"MiB  {place}" in ended.out
    else:
        assert ended.status == -SEGV
        assert ended.announced() == [str(archives[0])]
        assert f"at address 0x8 in {place}, process" in ended.err


# ---- what must stay as it was --------------------------------------------------------------------------


@pytest.mark.parametrize("death", ["os.abort()", "ctypes.string_at(8)"])
def test_crash_of_a_forked_child(project: Project, death: str) -> None:
    """It dies as without us; the test, which forked it, goes on, and there is an archive of the child."""
    project.write(
        test_a=f"""
        import ctypes, os, warnings
        def test_fork():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                child = os.fork()
            if not child:
                {death}
            _, status = os.waitpid(child, 0)
            assert os.WTERMSIG(status) == {int(SEGV if "string" in death else ABRT)}
        """
    )

    ended = project.run(*QUICK)

    assert ended.counts() == {"passed": 1}
    assert ended.err.count("Fatal Python error") == 1
    assert read_manifest(project.only_archive())["child_of"] is not None


def test_crash_without_faulthandler(project: Project) -> None:
    """An alternate stack is there all the same."""
    project.write(test_a="import ctypes\ndef test_a(): ctypes.string_at(8)")

    ended = project.run(*QUICK, "-p", "no:faulthandler")

    assert ended.status == -SEGV
    assert "Fatal Python error" not in ended.err
    assert ended.announced() == [str(project.only_archive())]
    assert ", in test_a\n" in read_member(project.only_archive(), "stacks.txt").decode()


@pytest.mark.field
@needs("gcc")
def test_overflow_without_faulthandler(project: Project, crashers: Path) -> None:
    write_crash(project, crashers, "overflow")

    ended = project.run(*QUICK, "-p", "no:faulthandler")

    assert ended.status == -SEGV
    assert ended.announced() == [str(project.only_archive())]
    assert ", stack overflow, in test_overflow.py::test_x" in ended.err
