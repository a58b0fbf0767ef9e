"""Read archives in tests, with nothing of the package under test."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def read_manifest(archive: Path) -> dict[str, Any]:
    """Return what ``gencore.json`` says."""
    manifest: dict[str, Any] = json.loads(read_member(archive, "gencore.json"))
    return manifest


def read_member(archive: Path, name: str) -> bytes:
    """Return a file below the top folder of an archive."""
    top = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"{top}/{name}")
        assert file is not None
        return file.read()


def threads_of(archive: Path) -> list[int]:
    """Return the thread ids of the manifest."""
    return [thread["tid"] for thread in read_manifest(archive)["threads"]]
