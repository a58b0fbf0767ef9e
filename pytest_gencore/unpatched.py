"""The system calls behind ``os``, which a test may have left patched, and flags that not all systems have."""

from __future__ import annotations

import os
import sys
from typing import Final

if sys.platform == "win32":
    import nt as posix
else:
    import posix

__all__ = ["NO_LINK", "NO_WAIT", "posix"]

_ALWAYS: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0) | _ALWAYS
"""For open(2): not through a link. Windows has only O_BINARY of these, and needs it."""
NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0) | _ALWAYS
"""Not to wait, as for who writes to a FIFO."""
