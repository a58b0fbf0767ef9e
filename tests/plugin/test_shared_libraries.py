"""``--gencore-libraries=once``: the libraries of a run in archives of their own."""

from __future__ import annotations

import random
import re
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import needs
from elf_files import find_libc
from gencore_archives import read_manifest
from lean_runs import WITH_LIBRARIES
from projects import Project

from pytest_gencore.archive import read_archive
from pytest_gencore.cli import libraries as named_libraries
from pytest_gencore.cli.workspace import find_mismatches

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
    import ctypes, pathlib, pytest

    def test_first():
        assert 0

    def test_second():
        for name in ("late.so", "nameless.so"):
            ctypes.CDLL(pathlib.Path(name).absolute())
        assert 0

    @pytest.mark.parametrize("number", range(3))
    def test_more(number):
        assert 0
"""
ONCE = ("--gencore-on-fail", "--gencore-libraries=once", "--gencore-type=heap")
KEPT = r"its libraries are in (libraries_[0-9.]+\.tar\.gz(?: and libraries_[0-9.]+\.tar\.gz)*)$"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write(test_a=SOURCE)
    libc = find_libc().read_bytes()
    (tmp_path / "late.so").write_bytes(libc)
    # The note of the build id begins with the sizes of "GNU" and of the id, and its type.
    note = bytes([4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0]) + b"GNU"
    (tmp_path / "nameless.so").write_bytes(libc.replace(note, note[:-3] + b"XYZ"))
    return made


def cores(project: Project) -> list[Path]:
    return [path for path in project.find_archives() if path.name.startswith("core_")]


def shared(project: Project) -> list[Path]:
    return [path for path in project.find_archives() if path.name.startswith("libraries_")]


def keys(manifest: dict[str, Any], *, included: bool) -> list[tuple[str, str]]:
    return [
        (library["path"], library["build_id"] or library["sha256"])
        for library in manifest["libraries"]
        if library["included"] == included
    ]


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_each_library_is_there_once(project: Project, workers: str) -> None:
    ended = project.run(*ONCE, workers, "test_a.py")

    assert ended.counts() == {"failed": 5}
    archives, kept = cores(project), shared(project)
    assert len(archives) == 5
    there = [key for path in kept for key in keys(read_manifest(path), included=True)]
    assert len(there) == len(set(there))
    for name in ("late.so", "nameless.so"):
        assert sum(path.endswith(f"/{name}") for path, _ in there) == 1
    for archive in archives:
        manifest = read_manifest(archive)
        named = keys(manifest, included=False)
        assert set(named) <= set(there)
        assert manifest["executable"] in {path for path, _ in named}
        (line,) = (notice for notice in manifest["notices"] if notice.startswith("its libraries"))
        assert line in ended.out
        found = re.fullmatch(KEPT, line)
        assert found is not None
        assert set(found[1].split(" and ")) <= {path.name for path in kept}
        with tarfile.open(archive) as tar:
            assert not [name for name in tar.getnames() if ".so" in name]


@pytest.mark.slow
def test_manifest_of_an_archive_of_libraries(project: Project) -> None:
    project.run(*ONCE, "test_a.py::test_first")

    (kept,) = shared(project)
    manifest = read_manifest(kept)
    assert (manifest["type"], manifest["core"], manifest["complete"]) == ("libraries", None, True)
    assert manifest["nodeid"] == "test_a.py::test_first"
    assert manifest["diagnosis"] is None
    shown = project.gencore("show", kept)
    assert "\ntype       libraries\ncore       none\n" in shown.out
    assert project.gencore("unpack", kept, "folder").status == 0
    assert f"{kept.name}" not in project.gencore("list").out


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("where", ["beside", "library path", "full archive"])
def test_opened_where_the_libraries_are_not(
    project: Project, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run(*ONCE, "test_a.py::test_second")
    (archive,), (kept,) = cores(project), shared(project)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = shutil.copy(archive, elsewhere)
    places = []
    if where == "beside":
        shutil.copy(kept, elsewhere)
    elif where == "library path":
        places = [kept]
    else:
        shutil.rmtree(archive.parent)
        project.run("--gencore-on-fail", "--gencore-type=heap", WITH_LIBRARIES, "test_a.py::test_second")
        places = project.find_archives()
    monkeypatch.setattr(named_libraries, "_copy_file", lambda *_: False)  # this machine has them

    opened = read_archive(moved)
    folder = opened.unpack(tmp_path / "unpacked")
    complete = named_libraries.add_libraries(opened, folder, places)

    assert not [library for library in complete.manifest.libraries if not library.included]
    assert not find_mismatches(complete, folder)
    aliases = [alias for library in complete.manifest.libraries for alias in library.aliases]
    assert aliases
    assert all((folder / alias.lstrip("/")).is_file() for alias in aliases)


@pytest.mark.slow
@needs("gdb", "pystack")
def test_same_stacks(project: Project) -> None:
    project.run("--gencore-on-fail", "--gencore-type=heap", "test_a.py::test_first")
    expected = project.gencore("stacks", "--native", project.only_archive())
    shutil.rmtree(project.only_archive().parent)
    project.run(*ONCE, "test_a.py::test_first")
    (archive,) = cores(project)

    found = project.gencore("stacks", "--native", archive)

    assert functions(found.out) == functions(expected.out)
    assert not found.err
    assert project.gencore("debug", "--batch", archive).status == 0


def functions(text: str) -> str:
    """Return the stacks without the numbers of this run: files, lines, functions."""
    return re.sub(r"\b0x[0-9a-f]+|\b\d{4,}\b", "N", text)


@pytest.mark.slow
def test_no_room_for_the_libraries(project: Project, tmp_path: Path) -> None:
    """The archive is there all the same, and says what it lacks."""
    project.write(
        conftest="""
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (30 << 20, 30 << 20))
        """
    )
    with (tmp_path / "late.so").open("ab") as file:
        file.write(random.Random(1).randbytes(32 << 20))  # cannot be compressed
    project.write(
        test_a="""
        import ctypes, pathlib
        def test_first():
            ctypes.CDLL(pathlib.Path("late.so").absolute())
            assert 0
        """
    )

    ended = project.run(*ONCE, "test_a.py::test_first")

    assert "the libraries could not be kept: File too large" in ended.out
    (archive,) = cores(project)
    assert not shared(project)
    notes = {library["note"] for library in read_manifest(archive)["libraries"]}
    assert "it could not be kept: a notice says why" in notes
    assert not [note for note in notes if "it is in one of" in note]


@pytest.mark.slow
def test_prune(project: Project) -> None:
    project.run(*ONCE, "test_a.py::test_first")
    project.run(*ONCE, "test_a.py::test_second")
    (first, second), (old, new) = cores(project), shared(project)

    planned = project.gencore("prune", first.parent, "--keep", "1", "--dry-run")
    assert f"would remove {old}" in planned.out
    project.gencore("prune", first.parent, "--keep", "1")
    assert project.find_archives() == [second, new]
    project.gencore("prune", first.parent, "--keep", "0")
    assert not project.find_archives()
