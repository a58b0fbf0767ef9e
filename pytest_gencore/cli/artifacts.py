"""The artifact directory, seen from outside: archives by their names."""

from __future__ import annotations

import datetime
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT_DIRECTORY: Final = "gencore-artifacts"

_NAME = re.compile(r"core_([0-9]{8}\.[0-9]{6})\.([0-9]+)\.([0-9]{3,})\.tar\.gz")
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
        match = _NAME.fullmatch(entry.name)
        if match is None:
            continue
        try:
            created = datetime.datetime.strptime(match.group(1), _TIME_FORMAT)
            status = entry.stat(follow_symlinks=False)
        except (ValueError, FileNotFoundError):
            continue
        if stat.S_ISREG(status.st_mode):
            seconds = created.replace(tzinfo=datetime.timezone.utc).timestamp()
            order = (seconds, int(match.group(2)), int(match.group(3)))
            found.append(ArtifactFile(Path(entry.path), status.st_size, seconds, order))
    return sorted(found, key=lambda file: file.order)
