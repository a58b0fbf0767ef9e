"""Read archives in tests, with nothing of the package under test."""

from __future__ import annotations

import gzip
import json
import mmap
import re
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


TAR_END = bytes(1024)
GZIP_MAGIC = b"\x1f\x8b\x08"
GZIP_FORMAT = 31
"""The ``wbits`` of gzip, see zlib's manual."""


def find_left(folder: Path) -> list[Path]:
    """Return what is in an artifact directory but the texts beside archives; nothing if there is none."""
    entries = sorted(folder.iterdir()) if folder.exists() else []
    return [path for path in entries if not re.fullmatch(r"core_[\d.]+\.txt", path.name)]


def read_manifest(archive: Path) -> dict[str, Any]:
    """Return what ``gencore.json`` says, of an archive that is complete."""
    assert is_complete(archive), f"{archive} does not end as archives do"
    manifest: dict[str, Any] = json.loads(read_member(archive, "gencore.json"))
    return manifest


def read_member(archive: Path, name: str) -> bytes:
    """Return a file below the top folder of an archive; what is behind it is not read."""
    path = f"{archive.name.removesuffix('.tar.gz')}/{name}"
    with tarfile.open(archive) as tar:
        file = tar.extractfile(next(member for member in tar if member.name == path))
        assert file is not None
        return file.read()


def find_summary(archive: Path) -> str:
    """Return the line of ``stacks.txt`` that says what led to the capture."""
    text = read_member(archive, "stacks.txt").decode()
    return next(line for line in text.splitlines() if re.search(r", process \d+(?:: \w+)?$", line))


def is_complete(archive: Path) -> bool:
    """Tell whether the last gzip member has its checksum, and in it the end of the tar file.

    To read all of it, as ``tar`` does, takes hundreds of times longer.
    """
    with archive.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = len(data)
        while (at := data.rfind(GZIP_MAGIC, 0, at)) >= 0:
            member = zlib.decompressobj(GZIP_FORMAT)
            try:
                contents = member.decompress(data[at:])
            except zlib.error:  # these bytes are in the middle of a member
                continue
            if member.eof:
                break
        else:
            return False
    if member.unused_data:
        return False
    return contents.endswith(TAR_END) or _ends_as_tar(archive)  # its end may be in two members


def _ends_as_tar(archive: Path) -> bool:
    """Read all of it; raises what gzip raises."""
    tail = b""
    with gzip.open(archive) as file:
        while piece := file.read(1 << 20):
            tail = (tail + piece)[-len(TAR_END) :]
    return tail == TAR_END


def threads_of(archive: Path) -> list[int]:
    """Return the thread ids of the manifest."""
    return [thread["tid"] for thread in read_manifest(archive)["threads"]]
