"""Core dumps of the live Python process: for failing tests, and on request.

``create_core`` and ``collect_core`` may be called anywhere, with or without pytest.
"""

from __future__ import annotations

from pytest_gencore.errors import ArchiveError, CaptureError, GencoreError, UnavailableError
from pytest_gencore.request import collect_core, create_core
from pytest_gencore.version import __version__

__all__ = [
    "ArchiveError",
    "CaptureError",
    "GencoreError",
    "UnavailableError",
    "__version__",
    "collect_core",
    "create_core",
]
