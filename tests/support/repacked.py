"""A real archive with something changed: another manifest, more members."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

BLOCK = 512


def repack(
    archive: Path,
    target: Path,
    *,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    members: Mapping[str, bytes] | None = None,
) -> Path:
    """Copy an archive with a changed manifest and further files below its top folder."""
    top = archive.name.removesuffix(".tar.gz")
    with gzip.open(archive) as file:
        data = file.read()
    size = int(data[124:135], 8)
    manifest = json.loads(data[BLOCK : BLOCK + size])
    change(manifest)
    text = json.dumps(manifest).encode()
    added = io.BytesIO()
    with tarfile.open(fileobj=added, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, contents in {"gencore.json": text, **(members or {})}.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = len(contents)
            tar.addfile(info, io.BytesIO(contents))
    front = added.getvalue().rstrip(b"\0")
    front += bytes(-len(front) % BLOCK)
    target.write_bytes(gzip.compress(front + data[BLOCK + size :], 1))
    return target
