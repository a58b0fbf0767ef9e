"""A child writes more than a pipe holds, its parent does not read: run it with a timeout, it hangs."""

from __future__ import annotations

import subprocess
import sys

CHATTER = "print('x' * 200_000)"


def test_build() -> None:
    """Hang."""
    child = subprocess.Popen([sys.executable, "-c", CHATTER], stdout=subprocess.PIPE)
    child.wait()
