"""Cores laid out and read by us, and checked by readelf; damaged ones."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import complaints_of_readelf

from pytest_gencore.corefile.constants import (
    NT_FILE,
    NT_FPREGSET,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_SIGINFO,
    PF_R,
    PF_W,
)
from pytest_gencore.corefile.machines import AARCH64, X86_64, Machine
from pytest_gencore.corefile.mapped_files import MappedFile, build_nt_file
from pytest_gencore.corefile.notes import CoreFormatError, Note, build_notes
from pytest_gencore.corefile.process_notes import (
    PrPsInfo,
    PrStatus,
    build_prpsinfo,
    build_prstatus,
    build_siginfo,
)
from pytest_gencore.corefile.reader import NOTES_LIMIT, CoreFile, read_core
from pytest_gencore.corefile.segments import Segment
from pytest_gencore.corefile.writer import CoreLayout, lay_out_core, retarget_notes

PAGE = 4096
FILES = [MappedFile(0x400000, 0x402000, PAGE, b"/usr/bin/program")]


def note_list(machine: Machine = X86_64, tids: tuple[int, ...] = (100, 101)) -> list[Note]:
    info = PrPsInfo(uid=0, gid=0, pid=100, ppid=1, pgrp=100, sid=100, fname=b"program", psargs=b"program -x")
    notes: list[Note] = []
    for tid in tids:
        registers = tuple(range(tid, tid + len(machine.registers)))
        notes.append(
            Note("CORE", NT_PRSTATUS, build_prstatus(machine, PrStatus(tid=tid, registers=registers)))
        )
        if tid == tids[0]:
            notes += [
                Note("CORE", NT_PRPSINFO, build_prpsinfo(info)),
                Note("CORE", NT_SIGINFO, build_siginfo(11, 1, address=0)),
                Note("CORE", NT_FILE, build_nt_file(FILES, PAGE)),
            ]
        notes.append(Note("CORE", NT_FPREGSET, bytes(512 if machine is X86_64 else 528)))
    return notes


def write_core(path: Path, layout: CoreLayout) -> Path:
    with path.open("wb") as file:
        file.write(layout.header)
        for segment in layout.segments:
            file.seek(segment.offset)
            file.write(b"\x5a" * segment.filesz)
        file.truncate(layout.size)
    return path


def small_segments(count: int = 3) -> list[Segment]:
    return [Segment(0x400000 + index * 0x10000, 2 * PAGE, PAGE, PF_R | PF_W) for index in range(count)]


def small_core() -> bytes:
    layout = lay_out_core(X86_64, build_notes(note_list()), small_segments(), PAGE)
    return layout.header + b"\x5a" * (layout.size - len(layout.header))


@pytest.mark.skipif(not shutil.which("readelf"), reason="needs readelf")
@pytest.mark.parametrize("machine", [X86_64, AARCH64], ids=lambda machine: machine.name)
def test_readelf_has_no_complaint(tmp_path: Path, machine: Machine) -> None:
    layout = lay_out_core(machine, build_notes(note_list(machine)), small_segments(), PAGE)
    path = write_core(tmp_path / "core", layout)

    assert complaints_of_readelf(path) == []
    listing = subprocess.run(["readelf", "-nW", path], capture_output=True, text=True, check=True).stdout
    assert listing.count("NT_PRSTATUS") == 2


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("count", [65_533, 65_534, 70_000])
def test_many_segments(tmp_path: Path, count: int) -> None:
    """``e_phnum`` counts PT_NOTE too: 65,533 segments fit it, 65,534 do not."""
    segments = [Segment(0x10000 + index * 2 * PAGE, PAGE, 0, PF_R) for index in range(count)]
    layout = lay_out_core(X86_64, build_notes(note_list()), segments, PAGE)
    path = write_core(tmp_path / "core", layout)

    (stored,) = struct.unpack_from("<H", layout.header, 56)
    assert stored == min(count + 1, 0xFFFF)
    with path.open("rb") as file:
        core = read_core(file)
    assert core.segments == layout.segments
    assert [thread.tid for thread in core.threads()] == [100, 101]
    if count == 70_000 and shutil.which("readelf"):
        assert complaints_of_readelf(path) == []
        headers = subprocess.run(["readelf", "-hW", path], capture_output=True, text=True, check=True).stdout
        assert "65535 (70001)" in headers


page_counts = st.integers(0, 3)


@given(
    shapes=st.lists(st.tuples(page_counts, page_counts, page_counts, st.integers(0, 7)), max_size=8),
    page_size=st.sampled_from([4096, 16384, 65536]),
    machine=st.sampled_from([X86_64, AARCH64]),
)
def test_layout_and_reader_agree(
    shapes: list[tuple[int, int, int, int]], page_size: int, machine: Machine
) -> None:
    segments: list[Segment] = []
    address = page_size
    for gap, in_file, more, flags in shapes:
        address += gap * page_size
        segments.append(Segment(address, (in_file + more) * page_size, in_file * page_size, flags))
        address += segments[-1].memsz
    layout = lay_out_core(machine, build_notes(note_list(machine)), segments, page_size)

    assert len(layout.header) % page_size == 0
    assert all(segment.offset % page_size == 0 for segment in layout.segments)
    core = read_core(io.BytesIO(layout.header))
    assert core.machine is machine
    assert core.segments == layout.segments
    assert list(core.notes) == note_list(machine)
    assert core.missing_bytes(layout.size) == 0
    if layout.size > len(layout.header):
        assert core.expected_size == layout.size
        assert core.missing_bytes(layout.size - 1) == 1


@pytest.mark.parametrize(
    "segments",
    [
        [Segment(0x2000, PAGE, PAGE, 0), Segment(0x1000, PAGE, PAGE, 0)],
        [Segment(0x1000, 2 * PAGE, PAGE, 0), Segment(0x2000, PAGE, PAGE, 0)],
        [Segment(0x1000, PAGE, 2 * PAGE, 0)],
    ],
    ids=["order", "overlap", "larger than memory"],
)
def test_bad_segments_are_refused(segments: list[Segment]) -> None:
    with pytest.raises(ValueError, match="segment at"):
        lay_out_core(X86_64, b"", segments, PAGE)


def test_threads_have_their_notes_and_the_process_its_own() -> None:
    core = read_core(io.BytesIO(small_core()))
    first, second = core.threads()
    assert [note.type for note in first.notes] == [NT_PRSTATUS, NT_SIGINFO, NT_FPREGSET]
    assert [note.type for note in second.notes] == [NT_PRSTATUS, NT_FPREGSET]
    assert second.registers["rip"] == 101 + 16
    assert core.mapped_files() == FILES


def test_core_without_notes() -> None:
    layout = lay_out_core(X86_64, b"", small_segments(), PAGE)
    core = read_core(io.BytesIO(layout.header))
    assert (core.threads(), core.mapped_files()) == ([], [])


def test_notes_move_to_the_end() -> None:
    data = bytearray(small_core())
    notes = build_notes(note_list(tids=(100, 101, 102, 103)))
    offset = len(data)
    for position, patch in retarget_notes(bytes(data[:PAGE]), offset, len(notes)):
        data[position : position + len(patch)] = patch
    data += notes

    core = read_core(io.BytesIO(data))
    assert [thread.tid for thread in core.threads()] == [100, 101, 102, 103]
    assert core.expected_size == len(data)


def test_notes_cannot_move_without_their_header() -> None:
    with pytest.raises(CoreFormatError, match="PT_NOTE"):
        retarget_notes(small_core()[:64], 4096, 4)
    with pytest.raises(CoreFormatError, match="ELF"):
        retarget_notes(b"", 4096, 4)
    with pytest.raises(ValueError, match="aligned"):
        retarget_notes(small_core(), 4098, 4)


def test_every_truncation_is_a_format_error_or_counted() -> None:
    data = small_core()
    headers_end = 64 + 4 * 56
    for size in [*range(0, 1600, 7), len(data) // 2, len(data) - 1]:
        file = io.BytesIO(data[:size])
        if size < headers_end:
            with pytest.raises(CoreFormatError):
                read_core(file)
        else:
            core = read_core(file)
            assert core.missing_bytes(size) == len(data) - size
            assert list(core.notes) == note_list()[: len(core.notes)]


@given(st.binary(max_size=300))
def test_garbage_is_a_format_error(data: bytes) -> None:
    with pytest.raises(CoreFormatError):
        read_core(io.BytesIO(data))


@given(st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=12))
def test_damage_is_a_format_error_or_a_core(damage: list[tuple[int, int]]) -> None:
    data = bytearray(small_core())
    for offset, value in damage:
        data[offset] = value
    try:
        core = read_core(io.BytesIO(data))
        core.threads()
        core.mapped_files()
    except CoreFormatError:
        return
    assert isinstance(core, CoreFile)


def test_note_segment_beyond_the_limit_is_not_read() -> None:
    data = bytearray(small_core())
    data[64 + 32 : 64 + 40] = struct.pack("<Q", NOTES_LIMIT + 1)
    with pytest.raises(CoreFormatError, match="limit"):
        read_core(io.BytesIO(data))


def test_other_elf_files_are_no_cores() -> None:
    with Path(sys.executable).open("rb") as file, pytest.raises(CoreFormatError, match="not a core"):
        read_core(file)
