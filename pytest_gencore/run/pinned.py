"""Open what lies in an artifact directory that others may be able to change.

They can put another folder, or a link, under the name of the run's folder. So that is opened once, checked,
and then used through its descriptor; what is in it was made by this user.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_gencore.unpatched import NO_LINK, NO_WAIT, posix

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOWHERE: Final = Path("/proc/self/fd/none")
"""A path that nobody can put anything under."""
_DIRECTORY_FLAGS: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | NO_LINK


def why_not_private(status: os.stat_result) -> str:
    """Return what keeps a folder from being this user's alone; empty if it is."""
    if not stat.S_ISDIR(status.st_mode):
        return "it is a link" if stat.S_ISLNK(status.st_mode) else "it is not a directory"
    if not hasattr(os, "geteuid"):
        return ""  # who may use a folder is said in other ways there
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & 0o077:
        return f"its mode is {stat.S_IMODE(status.st_mode):04o}"
    return ""


def open_private(path: Path) -> int:
    """Return a descriptor of a folder that is this user's alone; raises PermissionError saying why not."""
    try:
        descriptor = posix.open(path, _DIRECTORY_FLAGS)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.ELOOP, errno.ENOTDIR):
            raise
        reason = why_not_private(path.lstat()) or error.strerror
    else:
        reason = why_not_private(posix.fstat(descriptor))
        if not reason:
            return descriptor
        posix.close(descriptor)
    raise PermissionError(errno.EPERM, reason, str(path))


@contextlib.contextmanager
def pinned(path: Path) -> Iterator[Path | None]:
    """Give a path of the very folder that is there now; None if there is none, or none of this user's.

    It is for this thread: ``/proc/self`` is that of the main thread, which may have ended.
    """
    if not sys.platform.startswith("linux"):  # no path leads to a descriptor there
        yield path if _is_private(path) else None
        return
    try:
        descriptor = open_private(path)
    except (FileNotFoundError, PermissionError):
        yield None
        return
    try:
        yield Path(f"/proc/thread-self/fd/{descriptor}")
    finally:
        posix.close(descriptor)


def _is_private(path: Path) -> bool:
    try:
        return not why_not_private(path.lstat())
    except OSError:
        return False


@functools.cache
def pin(path: Path) -> Path:
    """Return a path of the very folder that is there now, for as long as this process lives.

    Its children can use it, too. Where there is none of this user's, there will be none.
    """
    try:
        return Path("/proc", os.readlink("/proc/self"), "fd", str(open_private(path)))  # noqa: PTH115 - a text
    except OSError:
        return _NOWHERE


def create_private(path: Path | str, *, access: int = os.O_WRONLY, folder: int | None = None) -> int:
    """Return a descriptor of a new file that is this user's alone; raises FileExistsError and OSError.

    ``folder`` is a descriptor of what a relative path begins at.
    """
    flags = os.O_CREAT | os.O_EXCL | NO_LINK
    return posix.open(path, access | flags, 0o600, dir_fd=folder)


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a regular file, never through a link, without waiting; raises OSError."""
    descriptor = posix.open(path, flags | NO_LINK | NO_WAIT)
    if stat.S_ISREG(posix.fstat(descriptor).st_mode):
        return descriptor
    posix.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_regular(path: Path, limit: int) -> bytes:
    """Return the contents of a regular file, of a longer one the end; raises OSError."""
    with os.fdopen(open_regular(path), "rb") as file:
        file.seek(max(0, posix.fstat(file.fileno()).st_size - limit))
        return file.read(limit)


def describe_exposure(directory: Path) -> str:
    """Return why others can replace what is in an artifact directory; empty if they cannot."""
    try:
        status = directory.stat()
    except OSError:
        return ""
    if not hasattr(os, "geteuid"):
        return ""
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to user {status.st_uid}"
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        who = "everybody" if status.st_mode & stat.S_IWOTH else f"whoever is in group {status.st_gid}"
        return f"{who} can write to it, and it has no sticky bit"
    return ""
