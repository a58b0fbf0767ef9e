"""stacks: by pystack, by gdb, or those of the archive."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import threads_of

from pytest_gencore.cli import stacks
from pytest_gencore.cli.tools import find_tool
from pytest_gencore.sandbox.pystack_command import python_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Gencore = Callable[..., Result]
    RunProgram = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.field


@needs("pystack")
def test_stacks(run_program: RunProgram, real_archive: Path, temporary: Path) -> None:
    result = run_program("stacks", real_archive)

    assert result.returncode == 0, result.stderr
    assert {int(tid) for tid in re.findall(r"Traceback for thread (\d+)", result.stdout)} == set(
        threads_of(real_archive)
    )
    first, second = re.findall(r"^Traceback for thread (\d+) \((\w+)[,)]", result.stdout, re.MULTILINE)
    assert first == (str(threads_of(real_archive)[0]), "MainThread")
    assert second == (str(threads_of(real_archive)[1]), "moon")
    assert result.stdout.startswith("failure of test_moon.py::test_it, process ")
    assert "zombie" not in result.stdout
    main, moon = result.stdout.split(f"Traceback for thread {second[0]}")
    assert "in the_test_function" in main
    assert "in wait_for_the_moon" in moon
    assert "(C)" not in result.stdout
    assert not list(temporary.iterdir())


@needs("pystack")
def test_native_stacks_with_locals(run_program: RunProgram, real_archive: Path) -> None:
    result = run_program("stacks", "--native", "--locals", "--json", real_archive)

    answer = json.loads(result.stdout)
    assert answer["tool"] == "pystack"
    assert "(C)" in answer["text"]
    assert "moon-" in answer["text"]


@needs("gdb")
def test_stacks_of_gdb(gencore: Gencore, real_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "find_tool", lambda name: None if name == "pystack" else find_tool(name))

    result = gencore("stacks", real_archive)

    assert result.exit_code == 0
    assert "no pystack could be started" in result.stderr
    heading, _, first = result.stdout.splitlines()[:3]
    assert heading.startswith("failure of test_moon.py::test_it, process ")
    assert first.startswith("Thread ")
    assert len(re.findall(r"LWP \d+", result.stdout)) >= 2


@needs("gdb")
def test_no_stacks_of_gdb_without_the_executable(
    gencore: Gencore, real_archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would name no function: what was written at the time of the capture does."""
    monkeypatch.setattr(stacks, "find_tool", lambda name: None if name == "pystack" else find_tool(name))
    monkeypatch.setattr(stacks, "executable_in", lambda _manifest, _folder: None)

    result = gencore("stacks", "--json", real_archive)

    assert json.loads(result.stdout)["tool"] == "stacks.txt"
    assert "wait_for_the_moon" in json.loads(result.stdout)["text"]


def test_stacks_without_tools(gencore: Gencore, real_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "find_tool", lambda name: None)

    result = gencore("stacks", "--json", real_archive)

    assert json.loads(result.stdout)["tool"] == "stacks.txt"
    assert "wait_for_the_moon" in json.loads(result.stdout)["text"]
    assert "pip install pystack" in result.stderr


@needs("pystack")
@pytest.mark.parametrize("name", ["pystack", "gdb"])
def test_tool_that_fails(
    gencore: Gencore, real_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The stacks of the archive are left, and the reason is said."""
    fake = tmp_path / name
    pystack = find_tool("pystack")
    assert pystack is not None
    if name == "pystack":
        first = f"#!{' '.join(python_of(pystack.path) or ())}\nimport sys"
        rest = 'print("1.2") if "--version" in sys.argv else sys.exit("oh \\033[31mno")'
    else:
        first = '#!/bin/sh\n[ "$1" = --version ] && echo "1.2" && exit'
        rest = 'printf "oh \\033[31mno\\n" >&2; exit 3'
    fake.write_text(f"{first}\n{rest}\n")
    fake.chmod(0o755)
    from pytest_gencore.cli.tools import describe_tool

    monkeypatch.setattr(
        stacks, "find_tool", lambda wanted: describe_tool(name, str(fake)) if wanted == name else None
    )

    result = gencore("stacks", real_archive)

    assert result.exit_code == 0
    assert f"{name} could not read the core: oh \\x1b[31mno\n" in result.stderr
    assert ("pip install pystack" in result.stderr) is (name == "gdb")
    assert "wait_for_the_moon" in result.stdout
