"""Read archives: on any machine, of anybody, without trust in them.

Everything that an archive says is checked before it is used, and memory stays bounded whatever it says. See
docs/reference/archive.md for the format, and ``pytest_gencore.collector.archive`` for the writer.
"""

from __future__ import annotations

from pytest_gencore.archive.manifest import (
    CoreFacts,
    Library,
    Manifest,
    Thread,
    Timings,
    Versions,
    parse_manifest,
)
from pytest_gencore.archive.reader import Archive, read_archive

__all__ = [
    "Archive",
    "CoreFacts",
    "Library",
    "Manifest",
    "Thread",
    "Timings",
    "Versions",
    "parse_manifest",
    "read_archive",
]
