"""The collector's log: its standard error, a file in the run's folder that is shown if the collector dies."""

from __future__ import annotations

import contextlib
import os
import sys


def log(text: str) -> None:
    """Write a line; a full disk has no room for it, and that is no reason to fail."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def close_log() -> None:
    """Let go of the file: NFS and FUSE keep a file that is open, under another name in its folder."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(null, descriptor)
        os.close(null)
