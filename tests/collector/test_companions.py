"""What debuggers want besides what the process maps."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.collector.files import debug_files
from pytest_gencore.collector.files.debug_files import find_debug_files, find_python_scripts, is_debug_file
from pytest_gencore.collector.files.libraries import Library

if TYPE_CHECKING:
    from pathlib import Path

BUILD_ID = "0123456789abcdef"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Return a library whose debug file exists, of 100 bytes."""
    monkeypatch.setattr(debug_files, "FOLDER", str(tmp_path / "debug"))
    monkeypatch.setattr(debug_files, "build_id_of", lambda _: BUILD_ID)
    file = tmp_path / "debug" / ".build-id" / BUILD_ID[:2] / f"{BUILD_ID[2:]}.debug"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * 100)
    return Library("/lib/libx.so.1.2", 10, BUILD_ID, io.BytesIO(), "", ("/lib/libx.so.1",))


def test_debug_file_is_found_by_build_id(library: Library) -> None:
    notices: list[str] = []
    (found,) = find_debug_files([library], notices)
    assert found.source is not None
    found.source.close()
    assert found.size == 100
    assert found.build_id == BUILD_ID
    assert found.aliases == (f"/lib/.debug/{BUILD_ID[2:]}.debug",)
    assert is_debug_file(found)
    assert not is_debug_file(library)
    assert notices == []


def test_too_large_is_told(library: Library) -> None:
    notices: list[str] = []
    assert find_debug_files([library], notices, limit=99) == []
    assert "files of separate debug information left out, as they are too large: 1" in notices[0]


def test_another_build_is_not_taken(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug_files, "build_id_of", lambda _: "ff" * 8)
    assert find_debug_files([library], []) == []


def test_scripts_are_beside_python_only(library: Library) -> None:
    python = Library("/usr/bin/python3.11", 10, BUILD_ID, library.source, "", ())
    assert list(find_python_scripts([python, library])) == [
        "/usr/bin/python3.11-gdb.py",
        "/usr/share/gdb/auto-load/usr/bin/python3.11-gdb.py",
    ]
