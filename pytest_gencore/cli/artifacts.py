"""The artifact directory, seen from outside: archives by their names."""

from __future__ import annotations

import datetime
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_gencore.archive import read_archive
from pytest_gencore.errors import ArchiveError
from pytest_gencore.run.files import (
    SHARED_GLOB,
    STATE,
    page_beside,
    page_name,
    partial_name,
    shared_name,
    text_beside,
    text_name,
)

DEFAULT_DIRECTORY: Final = "gencore-artifacts"

_STEM = r"_([0-9]{8}\.[0-9]{6})\.([0-9]+)\.([0-9]{3,})"
_NAME = re.compile(rf"core{_STEM}\.tar\.gz")
_SHARED = re.compile(rf"libraries{_STEM}\.tar\.gz")
_LEFT = re.compile(rf"core{_STEM}\.(?:txt|html)|(?:core|libraries){_STEM}\.tar\.gz\.partial")
"""What may be there without an archive."""
_YOUNG_SECONDS: Final = 60.0
"""A file that is being made may have no state file yet."""
_TIME_FORMAT: Final = "%Y%m%d.%H%M%S"


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file that has an archive's name."""

    path: Path
    size: int
    """Bytes."""
    created: float
    """When the capture began, as the name says: seconds since 1970."""
    order: tuple[float, int, int]
    """Time, pid, number: the order in which the archives were made."""


def find_archives(directory: Path) -> list[ArtifactFile]:
    """Return the regular files with names of archives, oldest first; none if there is no such directory."""
    found = []
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return []
    for entry in entries:
        order = parse_name(entry.name)
        if order is None:
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode):
            found.append(ArtifactFile(Path(entry.path), status.st_size, order[0], order))
    return sorted(found, key=lambda file: file.order)


def parse_name(name: str) -> tuple[float, int, int] | None:
    """Return time, pid and number of an archive by its name, None for another name."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        created = datetime.datetime.strptime(match.group(1), _TIME_FORMAT)
    except ValueError:
        return None
    seconds = created.replace(tzinfo=datetime.timezone.utc).timestamp()
    return seconds, int(match.group(2)), int(match.group(3))


@dataclass(frozen=True, slots=True)
class Collectors:
    """What runs left, or still use, in a directory."""

    at_work: list[Path]
    """The state files of captures whose collectors are at work."""
    closed: list[str]
    """Hidden folders that cannot be looked into, each with the reason."""


def find_collectors(directory: Path) -> Collectors:
    """Find the collectors that hold their state file; raises OSError if the directory cannot be read."""
    from pytest_gencore.run.folder import find_run_folders, is_locked

    at_work: list[Path] = []
    closed = []
    for folder in find_run_folders(directory):
        reason = _why_closed(folder)
        if reason:
            closed.append(f"{folder} {reason}")
        else:
            at_work += filter(is_locked, sorted(folder.glob(STATE.glob)))
    return Collectors(at_work, closed)


def _why_closed(folder: Path) -> str:
    """Return why it is not known what happens in a folder: what is in another user's may be made up."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return ""
    if hasattr(os, "geteuid") and os.geteuid() not in (0, status.st_uid):
        return f"belongs to user {status.st_uid}; run this as that user"
    return "" if os.access(folder, os.R_OK | os.X_OK) else "cannot be read"


def find_unfinished(directory: Path) -> list[Path]:
    """Return what killed runs left: unfinished archives and hidden folders that no process uses, and texts.

    A text stays where its archive could not be finished.
    Only processes that can be seen from here count: not those of other machines that share the directory.
    """
    from pytest_gencore.run.folder import find_run_folders, is_used

    folders = find_run_folders(directory)
    used = [folder for folder in folders if is_used(folder)]
    names = [state.stem for folder in used for state in folder.glob(STATE.glob)]
    wanted = {made(name) for name in names for made in (partial_name, text_name, page_name)}
    wanted |= {partial_name(shared_name(name)) for name in names}
    for path in directory.glob("core_*.tar.gz"):
        wanted |= {text_beside(path).name, page_beside(path).name}
    left = [
        path
        for path in sorted((*directory.glob("core_*"), *directory.glob("libraries_*")))
        if _LEFT.fullmatch(path.name) and path.name not in wanted and _is_old_file(path)
    ]
    return [*left, *(folder for folder in folders if folder not in used)]


def find_unneeded(directory: Path, kept: list[ArtifactFile]) -> list[Path]:
    """Return the archives of libraries that no archive in ``kept`` needs: newer ones have what it names.

    None while a run uses the directory, or if one of the archives cannot be read.
    """
    from pytest_gencore.run.folder import find_run_folders, is_used

    shared = sorted(path for path in directory.glob(SHARED_GLOB) if is_shared_name(path.name))
    if not shared or any(is_used(folder) for folder in find_run_folders(directory)):
        return []
    try:
        needed = {key for file in kept for key in _keys_of(file.path, included=False)}
        unneeded = []
        for path in reversed(shared):
            offered = _keys_of(path, included=True)
            if needed.isdisjoint(offered):
                unneeded.append(path)
            needed -= offered
    except (ArchiveError, OSError):
        return []
    return unneeded[::-1]


def _keys_of(path: Path, *, included: bool) -> set[tuple[str, str | None]]:
    libraries = read_archive(path).manifest.libraries
    return {(library.path, library.identity) for library in libraries if library.included == included}


def is_shared_name(name: str) -> bool:
    """Whether a name is one of an archive of libraries."""
    return _SHARED.fullmatch(name) is not None


def _is_old_file(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > _YOUNG_SECONDS
