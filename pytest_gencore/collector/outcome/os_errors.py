"""Errors of the operating system in words."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def describe_os_error(error: OSError, directory: Path) -> str:
    """Return a line about an error that ended a capture whose archive goes to ``directory``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {error.strerror}: {directory}"
    if error.errno == errno.EFBIG:
        return (
            f"{error.strerror}: {directory} (the limit on the size of files: ulimit -f, or the file system's)"
        )
    if error.errno == errno.EMFILE:
        return f"{error.strerror} (the limit of the collector: ulimit -n)"
    if error.errno == errno.ENOENT and not directory.exists():
        return f"the directory was removed: {directory}"
    return f"{error.strerror or error}: {error.filename or directory}"
