"""Where the files come from that an archive only names: this machine, folders, other archives."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pytest_gencore.archive.names import find_fault
from pytest_gencore.archive.opening import open_archive
from pytest_gencore.archive.unpacker import check_space
from pytest_gencore.cli.output import note
from pytest_gencore.corefile.elffile import build_id_of
from pytest_gencore.errors import ArchiveError
from pytest_gencore.run.files import SHARED_GLOB
from pytest_gencore.run.pinned import create_private, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_gencore.archive import Archive, Library
    from pytest_gencore.archive.opened import OpenArchive
    from pytest_gencore.archive.tar_stream import Member

_ARCHIVES_LIMIT: Final = 1000
"""Archives of libraries beside an archive that are looked into."""
_PIECE: Final = 256 << 10


def add_libraries(archive: Archive, folder: Path, places: Sequence[Path]) -> Archive:
    """Copy what the archive only names into its unpacked folder; return the archive as it is then.

    From ``places``, folders and archives, from this machine, and from archives of libraries beside it: only
    files with the very build ID or digest. Raises ArchiveError if one of ``places`` is no readable archive.
    """
    named = (library for library in archive.manifest.libraries if not library.included)
    wanted = [library for library in named if library.identity]
    folders = [place for place in places if place.is_dir()]
    found = {library for library in wanted if _copy_file(library, folders, folder)}
    for path in (place for place in places if place not in folders):
        found |= _take(path, [library for library in wanted if library not in found], folder, archive.keys)
    beside = [] if archive.remote else sorted(archive.path.parent.glob(SHARED_GLOB))
    for path in beside[:_ARCHIVES_LIMIT]:
        found |= _take_if_readable(path, [library for library in wanted if library not in found], folder)
    for library in found:
        _add_aliases(library, folder, archive.manifest.name)
    libraries = tuple(
        dataclasses.replace(library, included=True) if library in found else library
        for library in archive.manifest.libraries
    )
    return dataclasses.replace(archive, manifest=dataclasses.replace(archive.manifest, libraries=libraries))


def _copy_file(library: Library, places: Iterable[Path], folder: Path) -> bool:
    """Copy the file that is the library; whether there is one."""
    names = (library.path.lstrip("/"), Path(library.path).name)
    for path in (*(place / name for place in places for name in names), Path(library.path)):
        try:
            descriptor = open_regular(path.resolve())
        except (OSError, RuntimeError):
            continue
        with os.fdopen(descriptor, "rb") as source:
            if _is(source, library):
                source.seek(0)
                return _write(library, folder, iter(functools.partial(source.read, _PIECE), b""))
    return False


def _take_if_readable(path: Path, wanted: Sequence[Library], folder: Path) -> set[Library]:
    try:
        return _take(path, wanted, folder)
    except (ArchiveError, OSError) as error:
        note(f"warning: {path}: {error}")
        return set()


def _take(path: Path, wanted: Sequence[Library], folder: Path, keys: Sequence[Any] = ()) -> set[Library]:
    """Copy what an archive has of the libraries; return those. Raises ArchiveError, OSError."""
    found: set[Library] = set()
    if not wanted:
        return found
    with open_archive(path, keys) as opened:
        offered = {_looks(library): library for library in opened.manifest.libraries if library.included}
        targets: dict[str, tuple[Library, int]] = {}
        for library in wanted:
            same = offered.get(_looks(library))
            if same is not None:
                targets[same.path.lstrip("/")] = (library, same.size)
        check_space(folder.parent, sum(size for _, size in targets.values()))
        while targets and (member := next(opened.members, None)) is not None:
            target = targets.pop(opened.inner_name(member), None)
            if target is not None and _copy_member(opened, member, *target, folder):
                found.add(target[0])
    return found


def _looks(library: Library) -> tuple[str, str | int]:
    """Return what a library is recognized by before it is read."""
    return PurePosixPath(library.path).name, library.build_id or library.size


def _copy_member(opened: OpenArchive, member: Member, library: Library, size: int, folder: Path) -> bool:
    """Copy a member that an archive's manifest gives ``size`` bytes; whether it is what it is said to be."""
    if member.kind != "file" or member.extents is not None or member.size != size:
        return False
    if not _write(library, folder, iter(functools.partial(opened.tar.read, _PIECE), b"")):
        return False
    target = folder / library.path.lstrip("/")
    with target.open("rb") as file:
        is_same = _is(file, library)
    if not is_same:
        target.unlink()
    return is_same


def _write(library: Library, folder: Path, contents: Iterable[bytes | memoryview]) -> bool:
    """Write a library to its place in the unpacked archive; False if something else is there."""
    target = folder / library.path.lstrip("/")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = create_private(target)
    except (FileExistsError, NotADirectoryError):
        return False
    with os.fdopen(descriptor, "wb") as copy:
        copy.writelines(contents)
    return True


def _add_aliases(library: Library, folder: Path, top: str) -> None:
    """Give it the names that the loader has for it; one that cannot be had is left out."""
    for alias in library.aliases:
        name = alias.lstrip("/")
        if find_fault(f"{top}/{name}"):
            continue
        with contextlib.suppress(OSError):
            (folder / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.link(folder / library.path.lstrip("/"), folder / name, follow_symlinks=False)


def _digest_of(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _is(file: BinaryIO, library: Library) -> bool:
    """Whether a file at its beginning is what an archive names."""
    try:
        if library.build_id:
            return build_id_of(file) == library.build_id
        is_as_large = os.fstat(file.fileno()).st_size == library.size
        return is_as_large and _digest_of(file) == library.sha256
    except OSError:  # files of /proc
        return False
