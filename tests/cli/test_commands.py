"""All commands, and list, show, unpack: what they print, change and answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from made_archives import NAME, new_manifest, write_archive

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Gencore = Callable[..., Result]
    RunProgram = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = (
    "demo",
    "check",
    "list",
    "show",
    "stacks",
    "diagnose",
    "diff",
    "report",
    "debug",
    "unpack",
    "wait",
    "prune",
)


# ---- all -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help(gencore: Gencore, command: str) -> None:
    for option in ("--help", "-h"):
        result = gencore(command, option)
        assert result.exit_code == 0
        assert f"\n    gencore {command}" in result.output, "an example"


def test_every_command_is_documented(gencore: Gencore) -> None:
    text = (Path(__file__).parents[2] / "docs/reference/cli.md").read_text()
    assert gencore("--help").output.split("Commands:\n")[1].split()[0] == "demo"
    for command in COMMANDS:
        assert f"## `gencore {command}" in text
        for word in gencore(command, "--help").output.split():
            if word.startswith("--") and word not in {"--", "--help", "--gdb/--lldb"}:
                assert word.rstrip(".,:") in text, word


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["show"], ["show", "/none"], ["show", "/"], ["prune", "."], ["prune", ".", "--keep", "-1"],
     ["prune", ".", "--max-size", "3x"], ["prune", ".", "--older-than", "3y"], ["wait", "--timeout", "soon"],
     ["debug", "/dev/null", "--gdb", "x", "--lldb", "y"]],
)  # fmt: skip
def test_wrong_usage(gencore: Gencore, arguments: list[str]) -> None:
    assert gencore(*arguments).exit_code == 2


@pytest.mark.parametrize("command", ["show", "stacks", "diagnose", "report", "debug", "unpack"])
def test_damaged_archive_is_one_line(gencore: Gencore, tmp_path: Path, command: str) -> None:
    (tmp_path / "a").write_bytes(b"no archive")

    result = gencore(command, tmp_path / "a")

    assert (result.exit_code, result.output) == (1, f"Error: {tmp_path / 'a'}: not a gzip file\n")


def test_directory_in_place_of_an_archive(gencore: Gencore, tmp_path: Path) -> None:
    result = gencore("show", tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path} is a directory; list its archives: gencore list DIRECTORY" in " ".join(
        result.output.split()
    )


@needs("root")
def test_archive_that_cannot_be_reached(tmp_path: Path) -> None:
    """It is not said to be missing."""
    tmp_path.chmod(0o700)
    (tmp_path / "a.tar.gz").touch()
    program = (
        "import os, click._textwrap, pytest_gencore.cli.show, pytest_gencore.cli.program as program\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "program.run()"
    )
    command = [sys.executable, "-c", program, "show", str(tmp_path / "a.tar.gz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "a.tar.gz: Permission denied" in done.stderr


def test_console_script_and_module(run_program: RunProgram) -> None:
    script = Path(sys.executable).parent / "gencore"
    assert run_program("--version").stdout.startswith("gencore, version ")
    if script.exists():
        assert subprocess.run([script, "--version"], check=True, capture_output=True, timeout=30).stdout


def test_without_click(tmp_path: Path, run_program: RunProgram) -> None:
    (tmp_path / "click.py").write_text("raise ImportError('no click')\n")
    from subjects import search_path

    result = run_program("list", PYTHONPATH=f"{tmp_path}{os.pathsep}{search_path()}")

    assert result.returncode == 2
    assert result.stderr == "gencore needs click: pip install 'pytest-gencore[cli]'\n"


IMPORTS = """
import sys
from click.testing import CliRunner
from pytest_gencore.cli.program import program
for name in program.list_commands(None):
    assert program.get_command(None, name) is not None
for arguments in (["list", sys.argv[1]], ["check", sys.argv[1]], ["wait", sys.argv[1]]):
    assert CliRunner().invoke(program, arguments).exit_code == 0, arguments
print(sorted({"pytest", "_pytest", "pytest_gencore.capture", "pytest_gencore.plugin"} & set(sys.modules)))
"""


def test_imports_neither_pytest_nor_the_engine(tmp_path: Path) -> None:
    write_archive(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, tmp_path], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


# ---- list and show ---------------------------------------------------------------------------------------


def test_list(gencore: Gencore, tmp_path: Path) -> None:
    path = write_archive(tmp_path)
    (tmp_path / "other.txt").write_text("x")

    result = gencore("list", tmp_path)

    assert result.exit_code == 0
    assert result.output == (
        f"{path}  {path.stat().st_size / 1024:.1f} KiB  failure  test_three.py::test_one (call)\n"
    )


def test_list_with_a_damaged_one(gencore: Gencore, tmp_path: Path) -> None:
    write_archive(tmp_path)
    bad = tmp_path / NAME.replace("001", "002")
    bad = bad.with_name(f"{bad.name}.tar.gz")
    bad.write_bytes(b"")

    result = gencore("list", tmp_path, "--json")

    assert result.exit_code == 1
    first, second = json.loads(result.stdout)
    assert first["nodeid"] == "test_three.py::test_one"
    assert second == {"path": str(bad), "size": 0, "error": "the file is empty"}
    assert "CANNOT BE READ: the file is empty" in gencore("list", tmp_path).output


def test_list_without_archives(gencore: Gencore, tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        result = gencore("list", directory)
        assert (result.exit_code, result.output) == (0, f"no archives in {directory}\n")
    assert gencore("list", tmp_path, "--json").output == "[]\n"


def test_show(gencore: Gencore, tmp_path: Path) -> None:
    manifest = new_manifest(worker_id=None, attempt=2)
    manifest["libraries"][1] |= {"included": False, "note": "gone"}

    output = gencore("show", write_archive(tmp_path, manifest)).output

    lines = [line.split(None, 1) for line in output.splitlines()]
    found = {parts[0]: parts[1] for parts in lines if len(parts) == 2}
    assert found["test"] == "test_three.py::test_one (call, attempt 2)"
    assert found["trigger"] == "failure: AssertionError"
    assert found["process"] == "9520, CPython 3.11.7, Linux 6.1 x86_64"
    assert found["core"] == "64.0 KiB, 12.0 KiB of it without holes"
    assert found["method"] == "memory: the default"
    assert found["libraries"] == "1, 1.1 KiB; 1 only named"
    assert found["notice"] == "pages that could not be read and are zeros: 7"
    secrets = "overwritten in 7 places: the values of 2 variables and 1 more; others are still there"
    assert found["secrets"] == secrets
    assert "           9520 python, the capturing thread\n" in output
    assert "           9521 waiter, registers not known: it did not answer in time\n" in output


def test_show_for_programs(gencore: Gencore, tmp_path: Path) -> None:
    path = write_archive(tmp_path)

    shown = json.loads(gencore("show", path, "--json").stdout)

    assert shown == {"path": str(path), "size": path.stat().st_size, "manifest": new_manifest()}


def test_show_failure(gencore: Gencore, tmp_path: Path, real_archive: Path) -> None:
    assert gencore("show", "--failure", write_archive(tmp_path)).output == "E   assert 1 == 2\n"
    assert gencore("show", "--failure", real_archive).output == "def test_it():\nE   assert \\x1b[31mred\n"


def test_nothing_that_a_terminal_takes_for_a_command(gencore: Gencore, tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07 \x9b31m \u202e\r\n\ud800\x00"
    manifest = new_manifest(nodeid=evil, worker_id=evil, method_reason=evil, notices=[evil], created=evil)
    manifest["threads"][0]["name"] = manifest["threads"][1]["reason"] = evil
    manifest["versions"]["kernel"] = evil
    path = write_archive(tmp_path, manifest)

    for arguments in (
        ["show", path],
        ["list", tmp_path],
        ["show", "--json", path],
        ["list", "--json", tmp_path],
    ):
        output = gencore(*arguments).output
        assert all(character.isprintable() or character == "\n" for character in output)
        assert "\\x1b]0;title\\x07" in output or "\\u001b]0;title\\u0007" in output


def test_large_archive_is_listed_and_shown_at_once(tmp_path: Path, run_program: RunProgram) -> None:
    """2 GiB, of which only the front is read: 0.2 s of CPU, most of it the start of Python."""
    path = write_archive(tmp_path)
    os.truncate(path, 2 << 30)
    measure = (
        "import resource, runpy, sys\nsys.argv[0] = 'gencore'\n"
        "try: runpy.run_module('pytest_gencore', run_name='__main__')\n"
        "finally:\n usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        " print('CPU', usage.ru_utime + usage.ru_stime, file=sys.stderr)"
    )
    for arguments in (["show", str(path)], ["list", str(tmp_path)]):
        times = []
        for _ in range(3):
            command = [sys.executable, "-c", measure, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
            assert "test_three.py::test_one" in done.stdout
            times.append(float(done.stderr.split("CPU ")[1]))
        assert min(times) < 0.2


# ---- unpack ----------------------------------------------------------------------------------------------


def test_unpack(gencore: Gencore, tmp_path: Path) -> None:
    path = write_archive(tmp_path)

    result = gencore("unpack", path, tmp_path / "out")

    assert (result.exit_code, result.output) == (0, f"{tmp_path}/out/{NAME}\n")
    assert (tmp_path / "out" / NAME / "core").exists()
    again = gencore("unpack", path, tmp_path / "out")
    assert (again.exit_code, "exists already" in again.output) == (1, True)
