"""Names of members: one rule for who writes archives and for who reads them."""

from __future__ import annotations

import re
from typing import Final

from pytest_gencore.errors import ArchiveError

MANIFEST_NAME: Final = "gencore.json"
SEALED_NAME: Final = "sealed.tar.gz.age"

MEMBERS_LIMIT: Final = 100_000
NAMES_LIMIT: Final = 8 << 20
"""Characters of all names together: whoever unpacks remembers them."""
_DEPTH_LIMIT: Final = 100
_NAME_LIMIT: Final = 4000
_PART_LIMIT: Final = 255
"""NAME_MAX of Linux, in bytes."""
_SHOWN: Final = 200
_DRIVE = re.compile(r"^([A-Za-z]):(?=/)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def member_of(path: str) -> str:
    """Return the name below the top folder of the file with an absolute path: ``C/a.py`` for ``C:/a.py``."""
    return _DRIVE.sub(r"\1", path).lstrip("/")


def without_drive(path: str) -> str:
    """Return a path without the drive that it has on Windows."""
    return _DRIVE.sub("", path)


def find_fault(name: str) -> str:
    """Return why no archive may hold a member of this name, its top folder included; empty if one may."""
    top, *inner = name.split("/")
    if not top or not {"", ".", ".."}.isdisjoint(inner):
        return "its path has empty, '.' or '..' components"
    if _CONTROL.search(name):
        return "its path has control characters"
    try:
        longest = max((len(part.encode("utf-8", "surrogateescape")) for part in inner), default=0)
    except UnicodeEncodeError:
        return "its path is no text"
    if len(inner) > _DEPTH_LIMIT or len(name) > _NAME_LIMIT or longest > _PART_LIMIT:
        return "its path is too long"
    return ""


def inner_name(top: str, name: str) -> str:
    """Return a name below the top folder, empty for that itself; raises ArchiveError if it is elsewhere."""
    name = name.removesuffix("/")
    first, _, inner = name.partition("/")
    if first != top or find_fault(name):
        message = "the archive holds a file outside of its folder, or with a name that is not safe"
        raise ArchiveError(f"{message}: {name[:_SHOWN]!r}")  # noqa: EM102 - one message in two parts
    return inner


class MemberNames:
    """The names that an archive will hold: readers accept all of them together."""

    def __init__(self, top: str) -> None:
        """``top`` is the folder that all members are in."""
        self._top = top
        self._files: set[str] = set()
        self._folders = {top}
        self._length = len(top)

    def add(self, name: str) -> str:
        """Take a name below the top folder for a file; return why it cannot be had, empty if it is taken."""
        path = f"{self._top}/{name.lstrip('/')}"
        fault = find_fault(path)
        if fault:
            return fault
        folders = [path[:at] for at, character in enumerate(path) if character == "/"]
        if path in self._files or path in self._folders or not self._files.isdisjoint(folders):
            return "another file has its name"
        if len(self._files) + 1 >= MEMBERS_LIMIT or self._length + len(path) > NAMES_LIMIT:
            return "there are too many files"
        self._files.add(path)
        self._folders.update(folders)
        self._length += len(path)
        return ""
