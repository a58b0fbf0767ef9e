"""Cores written and read: by us, by binutils and elfutils, by the kernel."""

from __future__ import annotations

import io
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gencore.corefile.constants import (
    NT_FILE,
    NT_FPREGSET,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_SIGINFO,
    NT_X86_XSTATE,
    PF_R,
    PF_W,
)
from pytest_gencore.corefile.elffile import build_id_of
from pytest_gencore.corefile.machines import AARCH64, X86_64, Machine
from pytest_gencore.corefile.mapped_files import MappedFile, build_nt_file
from pytest_gencore.corefile.notes import CoreFormatError, Note, build_notes
from pytest_gencore.corefile.process_notes import (
    PrPsInfo,
    PrStatus,
    build_prpsinfo,
    build_prstatus,
    build_siginfo,
    parse_prpsinfo,
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


def complaints_of_readelf(path: Path) -> list[str]:
    run = subprocess.run(["readelf", "-aW", path], capture_output=True, text=True, check=True)
    complaint = re.compile("warning|error|corrupt|truncated|unable", re.IGNORECASE)
    # Of binutils 2.40 about section header 0 of PN_XNUM, as fill_extnum_info in fs/binfmt_elf.c makes it.
    known = re.compile(r"readelf: Warning: \[ 0\]: Unexpected value \(70001\) in info field\.")
    lines = (run.stdout + run.stderr).splitlines()
    return [line for line in lines if complaint.search(line) and not known.fullmatch(line)]


@pytest.mark.skipif(not shutil.which("readelf"), reason="needs readelf")
@pytest.mark.parametrize("machine", [X86_64, AARCH64], ids=lambda machine: machine.name)
def test_readelf_has_no_complaint(tmp_path: Path, machine: Machine) -> None:
    layout = lay_out_core(machine, build_notes(note_list(machine)), small_segments(), PAGE)
    path = write_core(tmp_path / "core", layout)

    assert complaints_of_readelf(path) == []
    listing = subprocess.run(["readelf", "-nW", path], capture_output=True, text=True, check=True).stdout
    assert listing.count("NT_PRSTATUS") == 2


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


PROGRAM = """
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
static int ready[2];
static void *wait_here(void *unused) { (void)unused; (void)!write(ready[1], "x", 1); for (;;) pause(); }
int main(void) {
    char byte;
    pthread_t thread;
    (void)!pipe(ready);
    for (int i = 0; i < 3; i++) {
        pthread_create(&thread, 0, wait_here, 0);
        (void)!read(ready[0], &byte, 1);
    }
    raise(SIGSEGV);
    return 1;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    directory = tmp_path_factory.mktemp("program")
    (directory / "program.c").write_text(PROGRAM)
    path = directory / "program"
    subprocess.run(["gcc", "-pthread", "-Wl,--build-id", "-o", path, directory / "program.c"], check=True)
    return path


@pytest.fixture(scope="module")
def kernel_core(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A core of four threads, written by the kernel of this machine."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern != "core" or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip(f"this kernel does not write plain cores: core_pattern {pattern!r}")
    directory = tmp_path_factory.mktemp("core")
    subprocess.run(
        [program],
        check=False,
        cwd=directory,
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2
        ),
    )
    (path,) = directory.glob("core*")
    return path


def rebuilt(core: CoreFile, note: Note) -> bytes:
    threads = {thread.notes[0]: thread.status for thread in core.threads()}
    if note in threads:
        return build_prstatus(core.machine, threads[note])
    if (note.name, note.type) == ("CORE", NT_PRPSINFO):
        return build_prpsinfo(parse_prpsinfo(note.desc))
    if (note.name, note.type) == ("CORE", NT_FILE):
        return build_nt_file(core.mapped_files(), os.sysconf("SC_PAGE_SIZE"))
    return note.desc


def test_kernel_notes_are_rebuilt_byte_for_byte(kernel_core: Path) -> None:
    with kernel_core.open("rb") as file:
        core = read_core(file)
        again = build_notes([Note(note.name, note.type, rebuilt(core, note)) for note in core.notes])
        assert again in kernel_core.read_bytes()
    assert core.missing_bytes(kernel_core.stat().st_size) == 0
    assert len(core.threads()) == 4
    assert core.threads()[0].status.signal == 11


def test_kernel_header_is_laid_out_alike(kernel_core: Path) -> None:
    """Offsets differ only if the kernel pads elsewhere; sizes, flags and addresses are the same."""
    with kernel_core.open("rb") as file:
        core = read_core(file)
    layout = lay_out_core(core.machine, build_notes(core.notes), core.segments, PAGE)
    assert layout.segments == core.segments
    # All of the ELF header, and PT_NOTE except for p_flags and p_align, which older kernels leave 0.
    kernel = kernel_core.read_bytes()[:120]
    assert layout.header[:64] == kernel[:64]
    assert layout.header[72:112] == kernel[72:112]


def test_kernel_floating_point_notes_agree_with_a_signal_frame(kernel_core: Path) -> None:
    """An NT_X86_XSTATE note with the frame's software bytes is a signal frame: both notes come back."""
    with kernel_core.open("rb") as file:
        core = read_core(file)
    if core.machine is not X86_64:
        pytest.skip("needs x86-64")
    compared = 0
    for thread in core.threads():
        by_type = {note.type: note.desc for note in thread.notes}
        xstate = by_type.get(NT_X86_XSTATE)
        if xstate is None:
            continue
        software = struct.pack(
            "<IIQI", 0x46505853, len(xstate) + 4, *struct.unpack_from("<Q", xstate, 464), len(xstate)
        )
        fpregset, again = X86_64.thread_notes(xstate[:464] + software.ljust(48, b"\0") + xstate[512:], 0)
        assert fpregset.desc == by_type[NT_FPREGSET]
        assert again.desc == xstate
        compared += 1
    assert compared in {0, 4}


@pytest.mark.skipif(not shutil.which("eu-readelf"), reason="needs eu-readelf")
def test_elfutils_reads_the_same_threads(kernel_core: Path) -> None:
    with kernel_core.open("rb") as file:
        core = read_core(file)
    listing = subprocess.run(
        ["eu-readelf", "-n", kernel_core], capture_output=True, text=True, check=True
    ).stdout
    threads = core.threads()
    listed = re.findall(r"\bpid: (\d+), ppid: \d+, pgrp: \d+, sid: \d+\n +utime", listing)
    assert [int(tid) for tid in listed] == [thread.tid for thread in threads]
    for thread in threads:
        assert f"{thread.registers[core.machine.program_counter]:#018x}" in listing
    for mapped in core.mapped_files():
        assert f"{mapped.start:08x}-{mapped.end:08x}" in listing
        assert mapped.path.decode() in listing


@pytest.mark.skipif(not shutil.which("readelf"), reason="needs readelf")
def test_binutils_reads_the_same_notes(kernel_core: Path) -> None:
    with kernel_core.open("rb") as file:
        core = read_core(file)
    listing = subprocess.run(
        ["readelf", "-nW", kernel_core], capture_output=True, text=True, check=True
    ).stdout
    assert listing.count("NT_PRSTATUS") == 4
    sizes = re.findall(r"^  (\w+) +(0x[0-9a-f]+)\t", listing, re.MULTILINE)
    assert [(name, int(size, 16)) for name, size in sizes] == [
        (note.name, len(note.desc)) for note in core.notes
    ]


@pytest.mark.skipif(not shutil.which("gdb"), reason="needs gdb")
def test_gdb_sees_the_threads_of_retargeted_notes(kernel_core: Path, program: Path, tmp_path: Path) -> None:
    """Five threads, the fifth a copy of the fourth under another id: what the method kernel does."""
    path = tmp_path / "core"
    shutil.copy(kernel_core, path)
    with path.open("r+b") as file:
        core = read_core(file)
        last = core.threads()[-1]
        copy = PrStatus(tid=last.tid + 1000, ppid=last.status.ppid, registers=last.status.registers, signal=0)
        desc = build_prstatus(core.machine, copy)
        notes = build_notes([*core.notes, Note("CORE", NT_PRSTATUS, desc), *last.notes[1:]])
        offset = file.seek(0, os.SEEK_END)
        offset += -offset % 4
        file.seek(0)
        patches = retarget_notes(file.read(PAGE), offset, len(notes))
        for position, patch in [*patches, (offset, notes)]:
            file.seek(position)
            file.write(patch)

    assert not shutil.which("readelf") or complaints_of_readelf(path) == []
    gdb = subprocess.run(
        ["gdb", "-nx", "-batch", "-ex", "info threads", "-ex", "thread apply all bt", program, path],
        capture_output=True,
        text=True,
        check=True,
    )
    listed = re.findall(r"^[* ] \d+ +(?:Thread .*?\(LWP (\d+)\)|LWP (\d+))", gdb.stdout, re.MULTILINE)
    assert sorted(int(a or b) for a, b in listed) == sorted(
        [*(thread.tid for thread in core.threads()), copy.tid]
    )
    assert gdb.stdout.count("in wait_here") == 4


def test_build_id(program: Path) -> None:
    listing = subprocess.run(["file", "-b", program], capture_output=True, text=True, check=False)
    with program.open("rb") as file:
        build_id = build_id_of(file)
    assert build_id is not None
    assert re.fullmatch("[0-9a-f]{40}", build_id)
    assert listing.returncode != 0 or build_id in listing.stdout


def test_build_id_needs_no_section_headers(program: Path) -> None:
    data = bytearray(program.read_bytes())
    with program.open("rb") as file:
        expected = build_id_of(file)
    data[40:48] = b"\xff" * 8  # e_shoff
    data[58:64] = b"\xff" * 6
    assert build_id_of(io.BytesIO(data)) == expected


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"#!/bin/sh\n" * 20, b"\x7fELF\x01\x01" + bytes(100)])
def test_no_build_id_in_other_files(data: bytes) -> None:
    assert build_id_of(io.BytesIO(data)) is None


@given(st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=12))
def test_build_id_of_damaged_files_is_an_answer(damage: list[tuple[int, int]]) -> None:
    data = bytearray(Path(sys.executable).read_bytes()[:4096])
    for offset, value in damage:
        data[offset] = value
    result = build_id_of(io.BytesIO(data))
    assert result is None or re.fullmatch("[0-9a-f]*", result)
