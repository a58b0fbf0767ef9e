"""Libraries and their sources are those of the archive, also where this machine has others at their paths."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from click.testing import CliRunner
from subjects import run_subject

from pytest_gencore.cli import tools
from pytest_gencore.cli.program import program

if TYPE_CHECKING:
    from collections.abc import Callable

    RunProgram = Callable[..., subprocess.CompletedProcess[str]]

LIBRARY = """
int library_function(int (*call)(void)) {
    return call() + 1;  /* CAPTURED LINE */
}
"""
OTHER = """
/* OTHER LINE */
int other_function(int n) { return n * n * n; }
int one_more(int n) { return other_function(n) / 3; }
int library_function(int (*call)(void)) { return call(); }
"""
SUBJECT = """
import ctypes, sys
from subjects import *
captures = Captures(sys.argv[1])
def call():
    captures.take(method="memory", core_filter=0xFF, trigger="failure")
    return 0
ctypes.CDLL(sys.argv[2]).library_function(ctypes.CFUNCTYPE(ctypes.c_int)(call))
report(outcomes=captures.finish())
"""


def compile_library(folder: Path, source: str) -> None:
    """Replace the library: the old one may be mapped."""
    (folder / "library.c").write_text(source)
    command = [
        "gcc",
        "-g",
        "-O0",
        "-shared",
        "-fPIC",
        "-Wl,--build-id",
        "-o",
        "new.so",
        str(folder / "library.c"),
    ]
    subprocess.run(command, check=True, cwd=folder)
    (folder / "new.so").rename(folder / "library.so")


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive with a library; at its path there is another one now, and another source."""
    folder = tmp_path_factory.mktemp("moved")
    compile_library(folder, LIBRARY)
    (outcome,) = run_subject(SUBJECT, folder / "out", str(folder / "library.so"))["outcomes"]
    compile_library(folder, OTHER)
    return Path(outcome["archive"])


@pytest.mark.slow
@needs("gcc", "lldb")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("arguments", [[], ["--", "-o", "image list", "-o", "thread backtrace all"]])
def test_libraries_of_lldb(
    run_program: RunProgram, moved: Path, temporary: Path, arguments: list[str]
) -> None:
    output = run_program("debug", moved, "--batch", "--lldb", "lldb", *arguments).stdout

    assert "library.so`library_function(" in output
    assert "other_function" not in output
    if arguments:
        images = re.findall(r"^\[ *\d+\] .*? (/\S+) *$", output, re.MULTILINE)
        assert any(path.endswith("/library.so") for path in images)
        assert all(path.startswith(str(temporary)) for path in images), images


@needs("gcc", "gdb", "pystack")
@pytest.mark.timeout(120)
def test_sources_of_gdb(run_program: RunProgram, moved: Path) -> None:
    arguments = ["--batch", "--", "-ex", "list library_function", "-ex", "info symbol library_function"]

    output = run_program("debug", moved, *arguments).stdout

    assert "/* CAPTURED LINE */" in output
    assert "OTHER LINE" not in output


@needs("gcc", "gdb", "pystack")
@pytest.mark.timeout(120)
def test_sources_of_the_script(moved: Path, tmp_path: Path) -> None:
    """With ``open.gdb``, without the command line."""
    subprocess.run(["tar", "xzf", str(moved), "-C", str(tmp_path)], check=True)
    (folder,) = tmp_path.iterdir()
    command = ["gdb", "-nx", "-batch", "-x", "open.gdb", "-ex", "list library_function"]

    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)

    assert "/* CAPTURED LINE */" in done.stdout
    assert "OTHER LINE" not in done.stdout


@pytest.mark.slow(rows=1)
@needs("gcc", "pystack", "lldb")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "protection",
    [
        pytest.param("sandbox", marks=needs("bubblewrap")),
        pytest.param("landlock", marks=needs("landlock")),
    ],
)
@pytest.mark.parametrize("command", ["pystack", "lldb"])
def test_a_fifo_in_place_of_a_library(
    moved: Path, monkeypatch: pytest.MonkeyPatch, protection: str, command: str
) -> None:
    """pystack opens what is at the library's path here, too, and would wait for ever."""
    library = moved.parents[1] / "library.so"
    kept = library.rename(library.with_name("kept.so"))
    os.mkfifo(library)
    if protection == "landlock":
        monkeypatch.setattr(tools, "find_bubblewrap", lambda: None)
    try:
        arguments = ["stacks", "--native"] if command == "pystack" else ["debug", "--batch", "--lldb", "lldb"]
        result = CliRunner().invoke(program, [*arguments, str(moved)])
    finally:
        kept.rename(library)

    assert result.exit_code == 0, result.stderr
    assert "could not read" not in result.stderr
    assert "library_function" in result.stdout
