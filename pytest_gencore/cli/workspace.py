"""Where an archive is unpacked for a debugger: a temporary folder, or one that stays."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pytest_gencore.corefile.elffile import build_id_of
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gencore.archive import Archive

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
    """Give a function that draws progress, time left and rate on standard error; None for no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    began = time.monotonic()
    with click.progressbar(
        length=_BAR_STEPS, label="unpacking", file=sys.stderr, width=0, item_show_func=_describe_rate
    ) as bar:

        def draw(done: int, total: int) -> None:
            if total >= _BAR_FROM_BYTES:
                step = min(_BAR_STEPS, done * _BAR_STEPS // total)
                seconds = time.monotonic() - began
                if step > bar.pos and seconds > 0:
                    bar.update(step - bar.pos, round(done / seconds))

        yield draw


def _describe_rate(rate: int | None) -> str | None:
    return None if rate is None else f"{format_size(rate)}/s"


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
