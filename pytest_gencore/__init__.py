"""Core dumps of the live Python process: for failing tests, and on request.

``create_core`` and ``collect_core`` may be called anywhere, with or without pytest; ``read_archive`` on
any machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gencore.api import collect_core, create_core
from pytest_gencore.errors import ArchiveError, CaptureError, GencoreError, UnavailableError
from pytest_gencore.version import __version__

if TYPE_CHECKING:
    import os

    from pytest_gencore.archive import Archive

__all__ = [
    "ArchiveError",
    "CaptureError",
    "GencoreError",
    "UnavailableError",
    "__version__",
    "collect_core",
    "create_core",
    "read_archive",
]


def read_archive(path: str | os.PathLike[str]) -> Archive:
    """Read what an archive holds, from its manifest; nothing is unpacked, nothing in it is trusted.

    Raises ArchiveError if it is not an archive, is damaged, or was made by a later version; OSError if it
    cannot be opened.
    """
    from pytest_gencore.archive.reader import read_archive as read

    return read(path)
