"""The collector's log: its standard error, a file in the run's folder that is shown if the collector dies."""

from __future__ import annotations

import contextlib
import sys


def log(text: str) -> None:
    """Write a line; a full disk has no room for it, and that is no reason to fail."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201
