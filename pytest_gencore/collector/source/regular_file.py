"""Open files whose names come from the captured process: none that waits, and none that does something."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO


def open_regular(path: str) -> BinaryIO:
    """Open a regular file for reading; raises OSError, also for anything else that has that name.

    A device or a FIFO is never opened: that alone may wait, or start what the device does. Nor does it wait
    for a lease on the file.
    """
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "no regular file", path)
        descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(handle)
    return os.fdopen(descriptor, "rb")
