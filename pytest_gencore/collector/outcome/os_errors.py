"""Errors of the operating system in words."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_THROUGH_DESCRIPTOR: Final = re.compile(r"/proc/(\d+|self)/fd/\d+")


def describe_os_error(error: OSError, directory: Path) -> str:
    """Return a line about an error that ended a capture whose archive goes to ``directory``.

    A full disk, a quota, a limit on the size of files and a directory that is gone are told with it: files
    are written only there. Another error is told with the file that it names, if it names one.
    """
    if error.errno == errno.EDQUOT:
        return f"the quota is used up: {error.strerror}: {directory}"
    if error.errno == errno.ENOSPC:
        return f"the disk is full: {error.strerror}: {directory}"
    if error.errno == errno.EFBIG:
        return (
            f"{error.strerror}: {directory} (the limit on the size of files: ulimit -f, or the file system's)"
        )
    if error.errno == errno.EMFILE:
        return f"{error.strerror} (the limit of the collector: ulimit -n)"
    if error.errno == errno.ENOENT and not directory.exists():
        return f"the directory is gone: {directory}"
    text = error.strerror or str(error)
    return f"{text}: {describe_path(error.filename)}" if error.filename else text


def describe_path(path: object) -> str:
    """Return a path as people know it: the run's folder is used through a descriptor."""
    text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)
    match = _THROUGH_DESCRIPTOR.match(text)
    if match is None:
        return text
    try:
        return os.readlink(match.group()) + text[match.end() :]  # noqa: PTH115 - a text
    except OSError:
        return text
