"""Minidumps of Windows: the program of the wheel, run by Wine, and another's reader of what it writes."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from capabilities import needs
from gencore_archives import read_manifest
from native_builds import PROGRAMS
from oracles import run_tool
from windows_wheel import PROGRAM, compile_program, make_wheel
from wine import Wine
from without_extension import copy_package

from pytest_gencore.errors import UnavailableError
from pytest_gencore.portable import windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minidump.minidumpfile import MinidumpFile
    from projects import Project

pytestmark = [
    pytest.mark.xdist_group("wine"),
    pytest.mark.slow,
    needs("wine", "mingw"),
]
SECRET = "correct-horse-battery"
MARKERS = [f"marker of thread {number}".encode() for number in range(3)]
PATIENCE = 100.0
CAPTURED = "captured 3b5 all"
"""Memory, handles without names, threads with all of their registers."""
SNAPSHOT = "of a snapshot, with handles"


class Running(NamedTuple):
    """A program with three threads, and what writes its minidump."""

    wine: Wine
    process: subprocess.Popen[str]
    pid: int
    threads: list[int]
    heap: int
    program: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("windows")
    with zipfile.ZipFile(make_wheel(folder / "wheel")) as wheel:
        program = Path(wheel.extract(PROGRAM, folder))
    target = compile_program(folder / "three_threads.exe", PROGRAMS / "three_threads.c")
    wine = Wine(folder / "prefix")
    try:
        process = wine.start(target, cwd=folder, environment={"DEPLOY_TOKEN": SECRET})
        assert process.stdout is not None
        pid, *threads, heap = map(int, process.stdout.readline().split())
        yield Running(wine, process, pid, threads, heap, program)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0  # it has gone on, and come to its end
    finally:
        wine.close()


@pytest.fixture
def target(running: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """Let cores be of the program: Wine runs what Windows would."""
    use_pid(running, running.pid, monkeypatch)
    return running


def use_pid(running: Running, pid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make_argv = windows.make_argv
    monkeypatch.setattr(windows, "_getpid", lambda: pid)
    monkeypatch.setattr(windows, "PROGRAM", running.program)
    monkeypatch.setattr(windows, "make_argv", lambda limit: [running.wine.program, *make_argv(limit)])
    for name, value in running.wine.environment.items():
        monkeypatch.setenv(name, value)


@contextlib.contextmanager
def read_dump(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MinidumpFile]:
    from minidump.constants import MINIDUMP_STREAM_TYPE
    from minidump.minidumpfile import MinidumpFile

    # Wine adds a stream of its own, 0xfff0, at which the reader stops.
    monkeypatch.setattr(
        MINIDUMP_STREAM_TYPE, "_missing_", classmethod(lambda cls, value: cls.UnusedStream), raising=False
    )
    with path.open("rb") as file:
        yield MinidumpFile.parse_external(file)


def test_three_threads(target: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = windows.write_core(tmp_path, time.monotonic() + PATIENCE)
    assert list(tmp_path.iterdir()) == [path]
    check_dump(path, target, monkeypatch)
    assert SECRET.encode("utf-16-le") in path.read_bytes()


def check_dump(path: Path, target: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail unless the reader finds the threads, each with the stack on which its marker is, and the heap."""
    with read_dump(path, monkeypatch) as dump:
        memory = dump.get_reader()
        threads = {thread.ThreadId: thread for thread in dump.threads.threads}
        assert list(threads) == target.threads
        for tid, marker in zip(target.threads, MARKERS, strict=True):
            stack = threads[tid].Stack
            data = memory.read(stack.StartOfMemoryRange, stack.MemoryLocation.DataSize)
            assert [found for found in MARKERS if found in data] == [marker]
            assert 0 <= threads[tid].ContextObject.Rsp - stack.StartOfMemoryRange < len(data)
        assert memory.read(target.heap, 28) == b"a text on the heap, thread 0"
    assert dump.misc_info.ProcessId == target.pid
    names = {module.name.rpartition("\\")[2] for module in dump.modules.modules}
    assert {"three_threads.exe", "ntdll.dll", "kernel32.dll"} <= names
    assert "without a snapshot: PssCaptureSnapshot: error 127" in str(dump.comment_a)


def refuse(folder: Path, seconds: float = PATIENCE) -> str:
    """Return why no core is written; nothing may be left."""
    with pytest.raises(UnavailableError) as raised:
        windows.write_core(folder, time.monotonic() + seconds)
    assert not list(folder.glob("*"))
    return str(raised.value)


def test_no_process(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_pid(running, 99999, monkeypatch)
    assert refuse(tmp_path) == "no minidump was written: OpenProcess: error 87: Invalid parameter."


@needs("root")
def test_no_room(target: Running, tmp_path: Path) -> None:
    """A full disk, which Wine's own function does not notice; and one that cannot be written."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=True)
    try:
        reason = refuse(tmp_path)
        assert reason.endswith("MiniDumpWriteDump: the file is shorter than it says: error 38: End of file.")
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        assert refuse(tmp_path).startswith("no minidump was written: CreateFile: error ")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_no_time(target: Running, tmp_path: Path) -> None:
    """The program is ended, and its file removed."""
    assert refuse(tmp_path, 1.0) == "no minidump was written: the time was over"


def test_no_program(target: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "make_argv", lambda limit: [str(tmp_path / "none.exe")])
    assert refuse(tmp_path).startswith("the program that writes minidumps cannot be started: ")


@pytest.mark.parametrize(
    ("limit", "fails", "steps", "said"),
    [
        (100_000, "", [CAPTURED, SNAPSHOT, "released"], "of a snapshot"),
        (
            100_000,
            "yes",
            [CAPTURED, SNAPSHOT, "released", "of a process"],
            "without a snapshot: MiniDumpWriteDump: error 6: Invalid handle.",
        ),
        (0, "", [CAPTURED, SNAPSHOT, "released"], "MiniDumpWriteDump: error 1223: "),
    ],
    ids=["snapshot", "failing", "late"],
)
def test_snapshot(
    target: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    fails: str,
    steps: list[str],
    said: str,
) -> None:
    """What the program does where there are snapshots, as far as a stand-in for them can show it."""
    program = tmp_path / "with_snapshots.exe"
    compile_program(program, PROGRAMS / "with_snapshots.c", libraries=("-ldbghelp",))
    ended = subprocess.run(
        [target.wine.program, program, str(target.pid), "core.dmp", str(limit)],
        cwd=tmp_path,
        env={**target.wine.environment, **({"SNAPSHOT_FAILS": fails} if fails else {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    path = tmp_path / "core.dmp"
    assert ended.stdout.split("\n")[:-1] == steps
    assert path.exists() is (limit > 0) is (ended.returncode == 0)
    if limit:
        with read_dump(path, monkeypatch) as dump:
            assert said in str(dump.comment_a)
            assert [thread.ThreadId for thread in dump.threads.threads] == target.threads
    else:
        assert ended.stderr.startswith(said)


TESTS = """
    import os
    os.environ["DEPLOY_TOKEN"] = "correct-horse-battery"

    def test_bad(monkeypatch):
        monkeypatch.setattr("subprocess.Popen", None)
        monkeypatch.setattr("os.getpid", None)
        assert 0
    """


def test_archive(
    target: Running,
    project: Project,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A failed test has it in its archive, redacted; there was no need for what the test has patched."""
    folder = tmp_path_factory.mktemp("copy")
    environment = copy_package(folder)
    shutil.copy(target.program, folder / "pytest_gencore/portable")
    project.write(test_a=TESTS)
    wine = {"WINE": target.wine.program, "WINDOWS_PID": str(target.pid), **target.wine.environment}
    ended = project.run("-p", "windows_cores", "--gencore-on-fail", environment={**wine, **environment})
    assert ended.counts() == {"failed": 1}, ended.out
    (path,) = project.archives().values()
    manifest = read_manifest(path)
    assert (manifest["type"], manifest["method"]) == ("full", "memory")
    assert all(thread["native_registers"] for thread in manifest["threads"])
    assert manifest["redaction"]["places"] > 0
    run_tool("tar", "xzf", path, "-C", folder)
    core = folder / path.name.removesuffix(".tar.gz") / "core"
    check_dump(core, target, monkeypatch)
    assert SECRET.encode("utf-16-le") not in core.read_bytes()
