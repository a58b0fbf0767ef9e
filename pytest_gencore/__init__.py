"""Core dumps of the live Python process: for failing tests, and on request.

``create_core`` and ``collect_core`` may be called anywhere, with or without pytest; ``read_archive`` on
any machine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gencore.api import collect_core, create_core
    from pytest_gencore.archive import Archive
    from pytest_gencore.errors import ArchiveError, CaptureError, GencoreError, UnavailableError
    from pytest_gencore.version import __version__

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

_HOMES = {
    "ArchiveError": "errors",
    "CaptureError": "errors",
    "GencoreError": "errors",
    "UnavailableError": "errors",
    "__version__": "version",
    "collect_core": "api",
    "create_core": "api",
}
"""Where the names are that are imported at first use: pytest imports this package in each run."""


def __getattr__(name: str) -> object:
    """Import one of the public names."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})


def read_archive(path: str | os.PathLike[str], *, identities: Sequence[Path] = ()) -> Archive:
    """Read what an archive holds, from its manifest; nothing is unpacked, nothing in it is trusted.

    ``identities`` are files with private keys, of age or SSH, that open it if it is sealed; without any, what
    can be read of a sealed archive is a short manifest. Raises ArchiveError if it is not an archive, is
    damaged, or was made by a later version; OSError if it cannot be opened.
    """
    from pytest_gencore.archive.reader import read_archive as read

    return read(path, identities=identities)
