"""A real archive with something changed: another manifest, more members."""

from __future__ import annotations

import gzip
import io
import json
import re
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
    rest = without(data[BLOCK + size :], {f"{top}/{name}".encode() for name in members or {}})
    front = added.getvalue().rstrip(b"\0")
    front += bytes(-len(front) % BLOCK)
    target.write_bytes(gzip.compress(front + rest, 0))  # nobody asks for its size, and 1 takes a second
    return target


def without(data: bytes, names: set[bytes]) -> bytes:
    """Return the members of a tar file, from the first header on, without those of these names."""
    kept = []
    at = start = 0
    while any(header := data[at : at + BLOCK]):
        number = header[124:136]
        size = int.from_bytes(number[1:], "big") if number[0] & 0x80 else int(number.strip(b" \0") or b"0", 8)
        at += BLOCK + -(-size // BLOCK) * BLOCK
        if header[156:157] in b"xL":  # belongs to the next one
            continue
        longer = re.search(rb"\d+ path=([^\n]+)\n", data[start : at - size])
        name = longer[1] if longer else header[:100].rstrip(b"\0")
        if name not in names:
            kept.append(data[start:at])
        start = at
    return b"".join(kept) + data[start:]
