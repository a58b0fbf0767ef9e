"""The kernel's core, made into what goes into an archive: one that we lay out ourselves."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.collector.core.core_stream import write_core
from pytest_gencore.collector.core.kernel_method import stream_core
from pytest_gencore.corefile.constants import NT_AUXV
from pytest_gencore.corefile.machines import X86_64
from pytest_gencore.corefile.notes import Note, build_notes
from pytest_gencore.corefile.reader import read_core
from pytest_gencore.corefile.segments import Segment
from pytest_gencore.corefile.writer import lay_out_core
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.collector.core.core_stream import CoreStream

PAGE = 4096
SEGMENTS = (Segment(0x10000, 4 * PAGE, 4 * PAGE, 6), Segment(0x40000, 64 * PAGE, 64 * PAGE, 6))
LAYOUT = lay_out_core(X86_64, build_notes([Note("CORE", NT_AUXV, b"old")]), SEGMENTS, PAGE)
NEW = build_notes([Note("CORE", NT_AUXV, b"new notes, which are longer")])


def write_kernel_core(path: Path) -> None:
    """The first segment has contents, of the second only the 20th page."""
    with path.open("wb") as file:
        file.write(LAYOUT.header)
        file.seek(LAYOUT.segments[0].offset)
        file.write(b"a" * 4 * PAGE)
        file.seek(LAYOUT.segments[1].offset + 20 * PAGE)
        file.write(b"b" * PAGE)
        file.truncate(LAYOUT.size)


def stream_to(path: Path, copy: Path) -> CoreStream:
    with path.open("r+b", buffering=0) as file, copy.open("wb") as target:
        stream = stream_core(file, NEW)
        write_core(stream, target.fileno())
    return stream


def test_holes_and_notes(tmp_path: Path) -> None:
    write_kernel_core(tmp_path / "core")

    stream = stream_to(tmp_path / "core", tmp_path / "copy")

    assert (stream.truncated, stream.notices) == (False, [])
    assert stream.data_size < 20 * PAGE, "the hole is not read"
    with (tmp_path / "copy").open("rb") as file:
        core = read_core(file)
        assert core.segments == LAYOUT.segments
        assert [note.desc for note in core.notes] == [b"new notes, which are longer"]
        file.seek(LAYOUT.segments[0].offset)
        assert file.read(4 * PAGE) == b"a" * 4 * PAGE
        file.seek(LAYOUT.segments[1].offset)
        assert file.read(64 * PAGE) == bytes(20 * PAGE) + b"b" * PAGE + bytes(43 * PAGE)


def test_a_core_that_is_cut_short(tmp_path: Path) -> None:
    write_kernel_core(tmp_path / "core")
    os.truncate(tmp_path / "core", LAYOUT.segments[1].offset + PAGE)

    stream = stream_to(tmp_path / "core", tmp_path / "copy")

    assert stream.truncated
    missing = 63 * PAGE
    assert stream.notices == [f"the core is truncated: {missing} bytes of its segments are missing"]


def test_no_core() -> None:
    with pytest.raises(ArchiveError, match="the kernel's core cannot be read: not an ELF file"):
        stream_core(io.BytesIO(b"x" * 100), NEW)


@pytest.mark.parametrize("content", [b"", bytes(5 * PAGE)], ids=["empty", "zeros"])
def test_a_core_of_a_full_disk(content: bytes) -> None:
    with pytest.raises(ArchiveError, match="the kernel has not written the beginning of its core"):
        stream_core(io.BytesIO(content), NEW)
