"""Reading a core while the kernel writes it, with a writer that we control."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import pytest

from pytest_gencore.collector.core import crash_method
from pytest_gencore.collector.core.crash_method import CoreChangedError, follow_core, read_whole_core
from pytest_gencore.corefile.machines import X86_64
from pytest_gencore.corefile.reader import read_core
from pytest_gencore.corefile.segments import Segment
from pytest_gencore.corefile.writer import lay_out_core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_gencore.collector.core.core_stream import CoreStream
    from pytest_gencore.collector.core.kernel_dump import KernelDump

PAGE = 4096
SEGMENTS = (Segment(0x10000, 4 * PAGE, 4 * PAGE, 6), Segment(0x40000, 8 * PAGE, 8 * PAGE, 6))
CONTENTS = [(0x10000, 0x14000), (0x41000, 0x42000)]
"""Addresses that have contents: the first segment, one page of the second."""
NOTES = bytes(20)
HEADER = lay_out_core(X86_64, NOTES, SEGMENTS, PAGE)


@dataclass
class Writer:
    """Stands for the kernel: does one more step of its work each time somebody waits for it."""

    path: Path
    steps: Iterator[Callable[[int], object]]
    ended: bool = False

    def has_ended(self, _timeout: float) -> bool:
        step = next(self.steps, None)
        if step is None:
            self.ended = True
        else:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT)
            step(descriptor)
            os.close(descriptor)
        return self.ended

    def find(self) -> Path | None:
        return self.path if self.path.exists() else None


def put(data: bytes, offset: int) -> Callable[[int], object]:
    return lambda descriptor: os.pwrite(descriptor, data, offset)


def size(length: int) -> Callable[[int], object]:
    return lambda descriptor: os.ftruncate(descriptor, length)


def first_data() -> int:
    return HEADER.segments[0].offset


def second_page() -> int:
    return HEADER.segments[1].offset + PAGE


@pytest.fixture(autouse=True)
def _follow_small_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_method, "_FOLLOWED_SIZE", 0)


class Follow(Protocol):
    def __call__(self, *steps: Callable[[int], object]) -> tuple[CoreStream, Writer]: ...


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    files = []

    def start(*steps: Callable[[int], object]) -> tuple[CoreStream, Writer]:
        writer = Writer(tmp_path / "core", iter(steps))
        followed = follow_core(cast("KernelDump", writer), NOTES, CONTENTS)
        assert followed is not None
        files.append(followed[1])
        return followed[0], writer

    yield start
    for file in files:
        file.close()


def read_all(stream: CoreStream, path: Path) -> None:
    """Write what the stream gives into a file with its holes."""
    data = b"".join(bytes(chunk) for chunk in stream.chunks())
    position = 0
    with path.open("wb") as file:
        for offset, length in stream.extents:
            file.seek(offset)
            file.write(data[position : position + length])
            position += length
        file.truncate(stream.size)
    assert position == len(data)


def header_pieces() -> list[Callable[[int], object]]:
    """The header comes in pieces, too."""
    return [put(HEADER.header[:100], 0), put(HEADER.header, 0), put(b"a" * PAGE, first_data())]


def test_a_core_that_grows(tmp_path: Path, follow: Follow) -> None:
    stream, writer = follow(
        *header_pieces(),
        put(b"b" * 3 * PAGE, first_data() + PAGE),
        put(b"c" * PAGE, second_page()),
        size(HEADER.size),
    )
    copy = tmp_path / "copy"
    read_all(stream, copy)
    with copy.open("rb") as file:
        core = read_core(file)
        assert core.segments == HEADER.segments
        file.seek(first_data())
        assert file.read(4 * PAGE) == b"a" * PAGE + b"b" * 3 * PAGE
        file.seek(second_page() - PAGE)
        assert file.read(3 * PAGE) == bytes(PAGE) + b"c" * PAGE + bytes(PAGE)
    with writer.path.open("rb") as file:
        again = read_whole_core(file, NOTES)
    assert again.size == stream.size, "as if it had been read when it was complete"


def test_a_core_that_is_cut_short(tmp_path: Path, follow: Follow) -> None:
    stream, _ = follow(*header_pieces(), put(b"b" * PAGE, first_data() + PAGE))
    with pytest.raises(CoreChangedError, match="shorter"):
        read_all(stream, tmp_path / "copy")


def test_contents_where_a_hole_was_expected(tmp_path: Path, follow: Follow) -> None:
    stream, _ = follow(
        *header_pieces(),
        put(b"b" * 3 * PAGE, first_data() + PAGE),
        put(b"x" * PAGE, second_page() + PAGE),
        size(HEADER.size),
    )
    with pytest.raises(CoreChangedError, match="not what its headers say"):
        read_all(stream, tmp_path / "copy")


def test_a_core_that_is_complete_is_not_followed(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "core", iter([]))
    assert follow_core(cast("KernelDump", writer), NOTES, CONTENTS) is None
