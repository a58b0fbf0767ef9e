"""debug: the debugger takes the archive's files, and nothing of the archive is run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import needs
from gencore_archives import read_manifest, threads_of
from kernel import wait_until
from made_archives import new_manifest, write_archive
from repacked import repack
from subjects import search_path

from pytest_gencore.archive import parse_manifest
from pytest_gencore.cli import python_commands
from pytest_gencore.cli.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Callable

    RunProgram = Callable[..., subprocess.CompletedProcess[str]]


# ---- debug -----------------------------------------------------------------------------------------------


@needs("gdb")
def test_batch(run_program: RunProgram, real_archive: Path, temporary: Path) -> None:
    result = run_program("debug", real_archive, "--batch")

    assert result.returncode == 0, result.stderr
    listing, *found = re.split(r"^Thread \d+ \(.*LWP (\d+)\)\):$", result.stdout, flags=re.MULTILINE)
    tids = threads_of(real_archive)
    assert set(map(int, re.findall(r"LWP (\d+)", listing))) == set(tids)
    assert {int(tid) for tid in found[::2]} == set(tids)
    for stack in found[1 : 2 * len(tids) : 2]:
        assert re.search(r"^#\d+ .*\b(_start|start_thread|clone3?|thread_run)\b", stack, re.MULTILINE), stack
    manifest = parse_manifest(json.dumps(read_manifest(real_archive)).encode())
    if python_commands.find_on_machine(manifest):
        assert "in wait_for_the_moon" in result.stdout
        assert "in the_test_function" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    assert not list(temporary.iterdir()), "the core is gone"


@needs("gdb")
def test_core_of_another_system(run_program: RunProgram, tmp_path: Path) -> None:
    versions = {**new_manifest()["versions"], "kernel": "Darwin 23.1.0"}
    archive = write_archive(tmp_path, new_manifest(versions=versions))

    result = run_program("debug", archive, "--batch")
    assert result.returncode == 1
    assert "Error: the core is not one of Linux: gencore unpack ARCHIVE" in result.stderr
    stacks = run_program("stacks", archive)
    assert (stacks.returncode, stacks.stderr) == (
        0,
        "stacks as they were written at the time of the capture\n",
    )


@needs("gdb")
def test_arguments_go_to_gdb(run_program: RunProgram, real_archive: Path, temporary: Path) -> None:
    commands = [
        "-ex",
        "show sysroot",
        "-ex",
        "info sharedlibrary",
        "-ex",
        "info files",
        "-ex",
        "show auto-load",
    ]

    output = run_program("debug", real_archive, "--batch", "--", *commands).stdout

    sysroot = re.search(r'The current system root is "(.*)"\.', output)
    assert sysroot is not None
    assert sysroot.group(1).startswith(str(temporary))
    paths = re.findall(r"(?:Yes|No)(?: \(\*\))? +(/\S+)$", output, re.MULTILINE)
    assert paths
    assert all(path.startswith(sysroot.group(1)) for path in paths), "no library of this machine"
    assert f"`{sysroot.group(1)}/core', file type elf64-x86-64" in output or "elf64" in output
    assert "Auto-loading of Python scripts is off." in output
    assert "thread apply" not in output


@needs("gdb")
def test_interactive(run_program: RunProgram, real_archive: Path, temporary: Path) -> None:
    """Standard input is empty: gdb ends at once."""
    result = run_program("debug", real_archive)

    assert result.returncode == 0
    assert "failure of test_moon.py::test_it" in result.stderr
    assert "thread apply all backtrace" in result.stderr
    assert "(gdb)" in result.stdout
    assert not list(temporary.iterdir())


@needs("gdb")
def test_folder_that_stays(run_program: RunProgram, real_archive: Path, tmp_path: Path) -> None:
    result = run_program(
        "debug", real_archive, "--batch", "--dir", tmp_path / "kept", "--", "-ex", "info threads"
    )

    assert result.returncode == 0
    assert (tmp_path / "kept" / real_archive.name.removesuffix(".tar.gz") / "core").exists()


@pytest.mark.slow(rows=1)
@needs("gdb")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_leaves_no_core_behind(
    real_archive: Path, temporary: Path, tmp_path: Path, number: int
) -> None:
    command = [sys.executable, "-m", "pytest_gencore", "debug", str(real_archive), "--batch", "--"]
    ready = f"shell touch {tmp_path}/ready"
    with subprocess.Popen(
        [*command, "-ex", ready, "-ex", "python import time; time.sleep(60)"],
        env={**os.environ, "PYTHONPATH": search_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        wait_until((tmp_path / "ready").exists, "gdb runs")
        assert list(temporary.iterdir())
        process.send_signal(number)
        process.communicate(timeout=30)

    assert process.returncode != 0
    assert not list(temporary.iterdir())


def test_no_debugger(run_program: RunProgram, real_archive: Path, tmp_path: Path) -> None:
    result = run_program("debug", real_archive, PATH=str(tmp_path))

    if find_tool("gdb") and Path(str(find_tool("gdb"))).parent == Path(sys.executable).parent:
        pytest.skip("gdb is beside Python")
    assert result.returncode == 1
    assert result.stderr == (
        "Error: neither gdb nor lldb could be started; the Python stacks need none: gencore stacks\n"
    )


def test_start_of_lldb(run_program: RunProgram, real_archive: Path, tmp_path: Path) -> None:
    fake = tmp_path / "lldb"
    fake.write_text('#!/bin/sh\necho lldb version 14.0.6\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)

    output = run_program("debug", real_archive, "--batch", "--lldb", fake).stdout.splitlines()

    assert "settings set target.load-script-from-symbol-file false" in output
    folder = output[-1].removesuffix("/core")
    assert f'platform select remote-linux --sysroot "{folder}"' in output
    assert output[-2] == "--core"
    assert output[-1].endswith("/core")
    assert output[-3].endswith(read_manifest(real_archive)["executable"])


# ---- trust -----------------------------------------------------------------------------------------------


@pytest.fixture
def evil_archive(real_archive: Path, tmp_path: Path) -> Path:
    """Return an archive with scripts for gdb where gdb looks for them; each leaves a mark."""
    manifest = read_manifest(real_archive)
    script = f"import gdb\nopen({str(tmp_path / 'mark')!r}, 'a').write('run')\n".encode()
    shell = f"shell touch {tmp_path / 'mark'}\n".encode()
    paths = [library["path"].lstrip("/") for library in manifest["libraries"] if library["included"]]
    members = {f"{path}-gdb.py": script for path in paths} | {f"{path}-gdb.gdb": shell for path in paths}
    members |= {".gdbinit": shell, "open.gdb.py": script}
    name = real_archive.name
    (tmp_path / "evil").mkdir()
    return repack(real_archive, tmp_path / "evil" / name, members=members)


@pytest.mark.slow
@needs("gdb")
def test_scripts_of_the_archive_are_not_run(
    run_program: RunProgram, evil_archive: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gdbinit").write_text("set auto-load safe-path /\n")

    for arguments in (["--batch"], [], ["--batch", "--dir", str(tmp_path / "out")]):
        result = run_program("debug", evil_archive, *arguments, HOME=str(home))
        assert result.returncode == 0, result.stderr
    assert run_program("stacks", evil_archive).returncode == 0

    assert not (tmp_path / "mark").exists()


@needs("gdb")
def test_scripts_of_a_trusted_archive_are_run(
    run_program: RunProgram, evil_archive: Path, tmp_path: Path
) -> None:
    arguments = ["--batch", "--trust-archive", "--", "-ex", "info threads"]
    result = run_program("debug", evil_archive, *arguments)

    assert result.returncode == 0, result.stderr
    assert (tmp_path / "mark").read_text() == "run"


@pytest.mark.slow
@needs("gdb")
def test_mismatch_of_build_ids_is_reported(
    run_program: RunProgram, real_archive: Path, tmp_path: Path
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["libraries"][0]["build_id"] = "00" * 20

    archive = repack(real_archive, tmp_path / real_archive.name, change=change)
    path = read_manifest(real_archive)["libraries"][0]["path"]

    result = run_program("debug", archive, "--batch", "--", "-ex", "info threads")

    assert f"warning: {path} has the build id " in result.stderr
    assert "the manifest says 0000" in result.stderr
