"""Libraries that an archive only names, added to its unpacked folder."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from typing import TYPE_CHECKING

import pytest
from elf_files import find_libc
from made_archives import write_archive

from pytest_gencore.archive import Archive, Library, read_archive
from pytest_gencore.cli.libraries import add_libraries
from pytest_gencore.cli.workspace import find_mismatches
from pytest_gencore.corefile.elffile import build_id_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def libc() -> Path:
    return find_libc()


def named(path: str, build_id: str | None) -> Library:
    return Library(path=path, build_id=build_id, size=1, included=False, note="not wanted", aliases=())


def archive_with(folder: Path, *libraries: Library) -> Archive:
    archive = read_archive(write_archive(folder))
    return dataclasses.replace(archive, manifest=dataclasses.replace(archive.manifest, libraries=libraries))


def read_build_id(path: Path) -> str | None:
    with path.open("rb") as file:
        return build_id_of(file)


@pytest.mark.parametrize("inner", ["lib/libx.so.6", "libx.so.6"], ids=["path", "name"])
def test_library_of_a_folder(tmp_path: Path, libc: Path, inner: str) -> None:
    place, folder = tmp_path / "place", tmp_path / "unpacked"
    (place / inner).parent.mkdir(parents=True)
    shutil.copy(libc, place / inner)
    archive = archive_with(tmp_path, named("/lib/libx.so.6", read_build_id(libc)))

    added = add_libraries(archive, folder, [place])

    assert (folder / "lib/libx.so.6").read_bytes() == libc.read_bytes()
    assert added.manifest.libraries[0].included
    assert not find_mismatches(added, folder)


def test_library_of_this_machine(tmp_path: Path, libc: Path) -> None:
    archive = archive_with(tmp_path, named(str(libc), read_build_id(libc)))

    add_libraries(archive, tmp_path / "unpacked", [])

    assert (tmp_path / "unpacked" / str(libc).lstrip("/")).read_bytes() == libc.read_bytes()


@pytest.mark.parametrize("build_id", ["00" * 20, None])
def test_other_builds_are_not_taken(tmp_path: Path, libc: Path, build_id: str | None) -> None:
    """Wrong frames are worse than none."""
    archive = archive_with(tmp_path, named(str(libc), build_id))

    added = add_libraries(archive, tmp_path / "unpacked", [libc.parent])

    assert not added.manifest.libraries[0].included
    assert find_mismatches(added, tmp_path) == [f"{libc} is not in the archive: not wanted"]
    assert not (tmp_path / "unpacked").exists()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("path", ["/dev/zero", "/proc/self/mem", "/etc", "/nowhere/at/all"])
def test_paths_of_a_stranger(tmp_path: Path, path: str) -> None:
    archive = archive_with(tmp_path, named(path, "00" * 20))

    added = add_libraries(archive, tmp_path / "unpacked", [])

    assert not added.manifest.libraries[0].included


def test_many_that_are_missing(tmp_path: Path) -> None:
    archive = archive_with(tmp_path, *(named(f"/nowhere/lib{number}.so", "00") for number in range(70)))

    found = find_mismatches(archive, tmp_path)

    assert len(found) == 6
    assert found[-1] == "more libraries that are not in the archive: 65; see gencore show --json"


@pytest.mark.parametrize("change", [b"", b"more"])
def test_library_without_a_build_id(tmp_path: Path, change: bytes) -> None:
    """It is known by its digest."""
    contents = b"no build id"
    place = tmp_path / "place"
    place.mkdir()
    (place / "libx.so").write_bytes(contents + change)
    library = dataclasses.replace(
        named("/lib/libx.so", None), size=len(contents), sha256=hashlib.sha256(contents).hexdigest()
    )

    added = add_libraries(archive_with(tmp_path, library), tmp_path / "unpacked", [place])

    assert added.manifest.libraries[0].included == (not change)
    assert (tmp_path / "unpacked/lib/libx.so").exists() == (not change)


def test_something_else_is_at_its_place(tmp_path: Path, libc: Path) -> None:
    """As where a library was replaced while it was mapped: two of one path, and the archive has one."""
    folder = tmp_path / "unpacked"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib/libx.so").write_text("another")
    (folder / "file").touch()
    (tmp_path / "libx.so").write_bytes(libc.read_bytes())
    build_id = read_build_id(libc)
    archive = archive_with(tmp_path, named("/lib/libx.so", build_id), named("/file/libx.so", build_id))

    added = add_libraries(archive, folder, [tmp_path])

    assert not any(library.included for library in added.manifest.libraries)
    assert (folder / "lib/libx.so").read_text() == "another"
