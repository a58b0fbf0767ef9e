"""In the failing process: what is asked, the snapshot, the start of the collector.

Nothing here is imported before a capture is armed. The work itself is C (``csrc``), because it must not
depend on what a test has patched; this package prepares it while everything is still sane.
"""

from __future__ import annotations

from pytest_gencore.capture.engine import CaptureEngine, PreparedCapture
from pytest_gencore.methods import Method
from pytest_gencore.request.model import Capture, CaptureRequest, Threads
from pytest_gencore.run.folder import new_run_id
from pytest_gencore.triggers import Trigger

__all__ = [
    "Capture",
    "CaptureEngine",
    "CaptureRequest",
    "Method",
    "PreparedCapture",
    "Threads",
    "Trigger",
    "new_run_id",
]
