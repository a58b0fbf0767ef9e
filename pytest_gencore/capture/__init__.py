"""In the failing process: what is asked, the snapshot, the start of the collector.

Nothing here is imported before a capture is armed. The work itself is C (``csrc``), because it must not
depend on what a test has patched; this package prepares it while everything is still sane.
"""

from __future__ import annotations

from pytest_gencore.capture.engine import CaptureEngine, Standbys
from pytest_gencore.capture.request import Capture, CaptureRequest, Threads, Trigger
from pytest_gencore.capture.run import Outcome, Run
from pytest_gencore.methods import Method
from pytest_gencore.runfolder import new_run_id

__all__ = [
    "Capture",
    "CaptureEngine",
    "CaptureRequest",
    "Method",
    "Outcome",
    "Run",
    "Standbys",
    "Threads",
    "Trigger",
    "new_run_id",
]
