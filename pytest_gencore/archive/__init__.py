"""Read archives: on any machine, of anybody, without trust in them.

Everything that an archive says is checked before it is used, and memory stays bounded whatever it says. See
docs/reference/archive.md for the format, and ``pytest_gencore.archive.writer`` for the writer.
"""

from __future__ import annotations

from pytest_gencore.archive.manifest import (
    CoreFacts,
    Library,
    Manifest,
    PythonVersion,
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
    "Thread",
    "Timings",
    "TriggerFacts",
    "Versions",
    "parse_manifest",
    "read_archive",
]
