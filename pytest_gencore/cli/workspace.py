"""Where an archive is unpacked for a debugger: a temporary folder, or one that stays."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pytest_gencore.corefile.elffile import build_id_of
from pytest_gencore.run.pinned import create_private, open_regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_gencore.archive import Archive, Library

_BAR_FROM_BYTES: Final = 32 << 20
_BAR_STEPS: Final = 1000
_MISMATCHES_SHOWN: Final = 5


@contextlib.contextmanager
def unpacked(archive: Archive, directory: Path | None) -> Iterator[Path]:
    """Give the archive's folder, unpacked in ``directory``, where it stays, or in a temporary folder."""
    with contextlib.ExitStack() as stack:
        if directory is None:
            # The folder holds a core: mkdtemp makes it for this user only.
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gencore-")))
        yield unpack_with_progress(archive, directory.absolute())


def unpack_with_progress(archive: Archive, directory: Path) -> Path:
    """Unpack into ``directory``, with a progress bar on a terminal; raises ArchiveError."""
    with progress_bar() as progress:
        return archive.unpack(directory, progress)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that draws progress on standard error, None if that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=_BAR_STEPS, label="unpacking", file=sys.stderr, width=0) as bar:

        def draw(done: int, total: int) -> None:
            if total >= _BAR_FROM_BYTES:
                step = min(_BAR_STEPS, done * _BAR_STEPS // total)
                if step > bar.pos:
                    bar.update(step - bar.pos)

        yield draw


def add_libraries(archive: Archive, folder: Path, places: Sequence[Path]) -> Archive:
    """Copy what the archive only names from ``places`` or from this machine into its unpacked folder.

    Only files with the very build id. Return the archive as it is then.
    """
    libraries = []
    for library in archive.manifest.libraries:
        found = None if library.included else _find_file(library, places)
        if found is not None:
            with os.fdopen(found, "rb") as source:
                target = folder / library.path.lstrip("/")
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with os.fdopen(create_private(target), "wb") as copy:
                    shutil.copyfileobj(source, copy)
        libraries.append(dataclasses.replace(library, included=library.included or found is not None))
    return dataclasses.replace(
        archive, manifest=dataclasses.replace(archive.manifest, libraries=tuple(libraries))
    )


def _find_file(library: Library, places: Sequence[Path]) -> int | None:
    """Return a descriptor of the file that has the library's build id, at its beginning."""
    names = (library.path.lstrip("/"), Path(library.path).name)
    for path in (*(place / name for place in places for name in names), Path(library.path)):
        try:
            descriptor = open_regular(path.resolve())
        except (OSError, RuntimeError):
            continue
        if library.build_id is not None and _read_build_id(descriptor) == library.build_id:
            os.lseek(descriptor, 0, os.SEEK_SET)
            return descriptor
        os.close(descriptor)
    return None


def _read_build_id(descriptor: int) -> str | None:
    with os.fdopen(os.dup(descriptor), "rb") as file, contextlib.suppress(OSError):  # files of /proc
        return build_id_of(file)
    return None


def find_mismatches(archive: Archive, folder: Path) -> list[str]:
    """Compare the unpacked files with the manifest; return what a debugger's user should know."""
    found: list[str] = []
    missing: list[str] = []
    for library in archive.manifest.libraries:
        if not library.included:
            missing.append(f"{library.path} is not in the archive: {library.note or 'no reason given'}")
            continue
        with (folder / library.path.lstrip("/")).open("rb") as file:
            build_id = build_id_of(file)
        if build_id != library.build_id:
            found.append(
                f"{library.path} has the build id {build_id}, the manifest says {library.build_id}: "
                "symbols may be wrong"
            )
    if len(missing) > _MISMATCHES_SHOWN:
        more = len(missing) - _MISMATCHES_SHOWN
        missing[_MISMATCHES_SHOWN:] = [
            f"more libraries that are not in the archive: {more}; see gencore show --json"
        ]
    return missing + found
