"""In the failing process: what is asked, the snapshot, the start of the collector.

Nothing here is imported before a capture is armed. The work itself is C (``csrc``), because it must not
depend on what a test has patched; this package prepares it while everything is still sane.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pytest_gencore.capture.engine import CaptureEngine, PreparedCaptures
from pytest_gencore.methods import Method
from pytest_gencore.request.model import Capture, CaptureRequest, Threads
from pytest_gencore.run.folder import new_run_id
from pytest_gencore.triggers import Trigger

if TYPE_CHECKING:
    from pytest_gencore.run.outcome import Outcome
    from pytest_gencore.run.run import Run

__all__ = [
    "Capture",
    "CaptureEngine",
    "CaptureRequest",
    "Method",
    "Outcome",
    "PreparedCaptures",
    "Run",
    "Threads",
    "Trigger",
    "new_run_id",
]


def __getattr__(name: str) -> object:
    """Import what waits for captures when there are some."""
    if name not in {"Outcome", "Run"}:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module("pytest_gencore.run.run"), name)
