"""pystack and debuggers are started under limits, and in a sandbox where there is one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capabilities import needs

from pytest_gencore.cli import readers, stacks, tools
from pytest_gencore.cli.tools import Tool, find_tool
from pytest_gencore.sandbox.landlock import has_landlock
from pytest_gencore.sandbox.pystack_command import pystack_command, python_of

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from click.testing import Result

    Gencore = Callable[..., Result]
    RunProgram = Callable[..., subprocess.CompletedProcess[str]]

LIMITS = (
    "python import resource as r; print('LIMITS', *(r.getrlimit(n) for n in (r.RLIMIT_DATA, r.RLIMIT_CORE)))"
)


def path_with(folder: Path, bubblewrap: str | None) -> str:
    """Return a PATH on which bubblewrap is a shell script, or is not there."""
    folder.mkdir()
    for directory in reversed(os.get_exec_path()):
        for program in Path(directory).glob("*"):
            link = folder / program.name
            if program.name != "bwrap" and not link.is_symlink():
                link.symlink_to(program)
    if bubblewrap is not None:
        (folder / "bwrap").write_text(bubblewrap)
        (folder / "bwrap").chmod(0o755)
    return str(folder)


@pytest.mark.slow(rows=1)
@needs("pystack")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("bubblewrap", "reason"),
    [
        (None, "the package bubblewrap would give one"),
        ("#!/bin/sh\nexit 1\n", "bubblewrap cannot make one here"),
    ],
)
def test_what_protects_is_said(
    run_program: RunProgram, real_archive: Path, tmp_path: Path, bubblewrap: str | None, reason: str
) -> None:
    result = run_program("stacks", real_archive, PATH=path_with(tmp_path / "bin", bubblewrap))

    limits = "limits and Landlock" if has_landlock() else "limits"
    assert result.returncode == 0
    assert result.stderr == f"read under {limits}, but in no sandbox: {reason}\n"
    assert "in wait_for_the_moon" in result.stdout


@needs("pystack")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "protection",
    [
        pytest.param("sandbox", marks=needs("bubblewrap")),
        pytest.param("landlock", marks=needs("landlock")),
    ],
)
def test_protects_alone(
    gencore: Gencore, real_archive: Path, monkeypatch: pytest.MonkeyPatch, protection: str
) -> None:
    """Also from a pystack that opens what it likes: the tests' own files are not there for it."""

    def with_all_files(script: str, _: str, arguments: Sequence[str]) -> list[str] | None:
        return pystack_command(script, "/", arguments)

    monkeypatch.setattr(readers, "pystack_command", with_all_files)
    if protection == "landlock":
        monkeypatch.setattr(tools, "find_bubblewrap", lambda: None)
    shut = gencore("stacks", real_archive)
    monkeypatch.setattr(tools, "find_bubblewrap", lambda: None)
    monkeypatch.setattr(tools, "has_landlock", lambda: False)
    free = gencore("stacks", real_archive)

    subject_line = re.compile(r'subjects\.py", line \d+, in \w+\n +(?!\(Python\))\S')
    assert subject_line.search(free.stdout)
    assert not subject_line.search(shut.stdout)
    assert "in the_test_function" in shut.stdout
    assert "could not read" not in shut.stderr


@needs("pystack")
@pytest.mark.timeout(60)
def test_limits_of_pystack(
    gencore: Gencore, real_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pystack = find_tool("pystack")
    assert pystack is not None
    names = "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_CORE"
    fake = tmp_path / "pystack"
    fake.write_text(
        f"#!{' '.join(python_of(pystack.path) or ())}\nimport os, resource as r\n"
        f"print(*(r.getrlimit(getattr(r, name))[0] for name in {names}), 'SECRET' in os.environ)"
    )
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setattr(stacks, "find_tool", lambda _: Tool("pystack", str(fake), ()))

    assert gencore("stacks", real_archive).stdout.endswith("\n1800 0 0 False\n")


@pytest.mark.slow(rows=1)
@needs("gdb")
@pytest.mark.parametrize("options", [["--batch"], []])
def test_limits_of_gdb(run_program: RunProgram, real_archive: Path, options: list[str]) -> None:
    output = run_program("debug", real_archive, *options, "--", "-ex", LIMITS).stdout

    found = re.search(r"LIMITS \((\d+), \d+\) \(0, 0\)", output)
    assert found
    assert int(found[1]) <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
