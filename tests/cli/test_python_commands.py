"""Python's commands for gdb: found beside the Python of the archive's version, or in the archive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.archive import parse_manifest
from pytest_gencore.cli import python_commands

if TYPE_CHECKING:
    from pathlib import Path


def manifest_of(version: str, implementation: str = "CPython") -> Any:
    from made_archives import new_manifest

    manifest = new_manifest()
    manifest["versions"]["python"] = {"implementation": implementation, "version": version}
    return parse_manifest(json.dumps(manifest).encode())


def test_script_is_found_beside_the_python_of_that_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "prefix" / "bin"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PATH", str(folder))
    (folder / "python3.77").write_text("#!/bin/sh\n")
    (folder / "python3.77").chmod(0o755)
    script = folder / "python3.77-gdb.py"
    assert python_commands.find_on_machine(manifest_of("3.77.1")) is None

    script.write_text("#!/bin/sh\nexec something\n")
    assert python_commands.find_on_machine(manifest_of("3.77.1")) is None, "a wrapper is no script"
    script.write_text("import gdb\n")
    script.chmod(0o646)
    assert python_commands.find_on_machine(manifest_of("3.77.1")) is None, "others can change it"
    script.chmod(0o644)
    assert python_commands.find_on_machine(manifest_of("3.77.1")) == script
    for version in ("3.7", "3.78.1", "/../3.77", "", "x"):
        assert python_commands.find_on_machine(manifest_of(version)) != script
    assert python_commands.find_on_machine(manifest_of("3.77.1", "PyPy")) is None


@pytest.mark.parametrize("top", ["", "usr/share/gdb/auto-load"])
def test_script_is_found_in_the_archive(tmp_path: Path, top: str) -> None:
    manifest = manifest_of("3.77.1")
    path = manifest.executable.lstrip("/")
    assert python_commands.find_in_archive(manifest, tmp_path) is None

    script = tmp_path / top / f"{path}-gdb.py"
    script.parent.mkdir(parents=True)
    script.with_name("libfoo.so-gdb.py").touch()
    assert python_commands.find_in_archive(manifest, tmp_path) is None
    script.touch()
    assert python_commands.find_in_archive(manifest, tmp_path) == script
