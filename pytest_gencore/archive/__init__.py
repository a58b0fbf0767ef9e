"""Read archives: on any machine, of anybody, without trust in them.

Everything that an archive says is checked before it is used, and memory stays bounded whatever it says. See
docs/reference/archive.md for the format, and ``pytest_gencore.archive.writer`` for the writer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gencore.archive.manifest import (
        CoreFacts,
        Library,
        Manifest,
        PythonVersion,
        RedactionFacts,
        SealedFacts,
        Thread,
        Timings,
        TriggerFacts,
        Versions,
    )
    from pytest_gencore.archive.manifest_parser import parse_manifest
    from pytest_gencore.archive.reader import Archive, read_archive

__all__ = [
    "Archive",
    "CoreFacts",
    "Library",
    "Manifest",
    "PythonVersion",
    "RedactionFacts",
    "SealedFacts",
    "Thread",
    "Timings",
    "TriggerFacts",
    "Versions",
    "parse_manifest",
    "read_archive",
]

_HOMES = {"Archive": "reader", "parse_manifest": "manifest_parser", "read_archive": "reader"}
"""Where names are that the module ``manifest`` does not have."""


def __getattr__(name: str) -> object:
    """Import a public name at first use: collectors need the writer only, and start once a capture."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    module = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'manifest')}")
    value: object = getattr(module, name)
    globals()[name] = value
    return value
