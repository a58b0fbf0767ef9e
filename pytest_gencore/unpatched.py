"""The system calls behind ``os``, which a test may have left patched."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import nt as posix
else:
    import posix

__all__ = ["posix"]
