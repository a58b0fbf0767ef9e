"""Archives written by the writer, and read by tar and tarfile."""

from __future__ import annotations

import io
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_gencore.archive.writer import ArchiveWriter

if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator
    from pathlib import Path


MTIME = 1_700_000_000
TOP = "core_20260101.120000.42.001"
KIB = 1024
MIB = KIB * KIB


@contextmanager
def writer(path: Path) -> Iterator[ArchiveWriter]:
    """Write an archive to a path."""
    with path.open("wb") as file, ArchiveWriter(file, TOP, MTIME) as archive:
        yield archive


def untar(path: Path, where: Path) -> Path:
    """Unpack with tar, which must not complain, into a new folder; return the top folder."""
    where.mkdir()
    run = subprocess.run(["tar", "xzf", path, "-C", where], check=False, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    return where / TOP


def read_member(tar: tarfile.TarFile, name: str) -> io.BufferedReader:
    """Open a member below the top folder."""
    member = tar.extractfile(f"{TOP}/{name}")
    assert isinstance(member, io.BufferedReader)
    return member
