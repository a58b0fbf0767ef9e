"""The command lines of debuggers: no path of an archive becomes a command, or is evaluated."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from made_archives import MANIFEST, new_manifest

from pytest_gencore.archive import parse_manifest
from pytest_gencore.cli.gdb import gdb_command
from pytest_gencore.cli.lldb import lldb_command
from pytest_gencore.cli.tools import Tool

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.archive import Manifest

MISREAD = ["`40+2`", "\nshell id\n", '"', "\\", ":", "\x1b", "\u2028"]


def hostile(part: str, folder: Path) -> Manifest:
    """Return the manifest of an unpacked archive with this in its executable's folder, and in another one."""
    executable = f"/a{part}b/python"
    (folder / executable.lstrip("/")).parent.mkdir()
    (folder / executable.lstrip("/")).touch()
    (library,) = [library for library in MANIFEST["libraries"] if library["path"] != MANIFEST["executable"]]
    libraries = [library, {**library, "path": executable}, {**library, "path": f"/c/{part}/x.so"}]
    return parse_manifest(json.dumps(new_manifest(executable=executable, libraries=libraries)).encode())


@pytest.mark.parametrize("part", MISREAD, ids=ascii)
def test_lldb_evaluates_nothing(part: str, tmp_path: Path) -> None:
    command = lldb_command(Tool("lldb", "lldb", (14,)), hostile(part, tmp_path), tmp_path)

    assert not [argument for argument in command if part in re.sub(f' "{tmp_path}(/usr/lib)?"', "", argument)]
    assert f'settings append target.exec-search-paths "{tmp_path}/usr/lib"' in command
    assert command[-2:] == ["--core", str(tmp_path / "core")]


@pytest.mark.parametrize("part", MISREAD, ids=ascii)
def test_gdb_gets_such_a_path_only_as_a_file(part: str, tmp_path: Path) -> None:
    """An argument that is a file is no command, whatever its name."""
    manifest = hostile(part, tmp_path)

    command = gdb_command(Tool("gdb", "gdb", (13,)), manifest, tmp_path)

    assert f"set solib-search-path {tmp_path}/usr/lib" in command
    assert manifest.executable is not None
    executable = str(tmp_path / manifest.executable.lstrip("/"))
    assert [argument for argument in command if part in argument] == [executable]
