"""Cores of the kernel, and build ids of programs: read by us, by binutils, elfutils and gdb."""

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
from oracles import complaints_of_readelf

from pytest_gencore.corefile.constants import (
    NT_FILE,
    NT_FPREGSET,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_X86_XSTATE,
)
from pytest_gencore.corefile.elffile import build_id_of
from pytest_gencore.corefile.machines import X86_64
from pytest_gencore.corefile.mapped_files import build_nt_file
from pytest_gencore.corefile.notes import Note, build_notes
from pytest_gencore.corefile.process_notes import (
    PrStatus,
    build_prpsinfo,
    build_prstatus,
    parse_prpsinfo,
)
from pytest_gencore.corefile.reader import CoreFile, read_core
from pytest_gencore.corefile.writer import lay_out_core, retarget_notes

PAGE = 4096
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
        fpregset, again = X86_64.thread_notes(xstate[:464] + software.ljust(48, b"\0") + xstate[512:], 0, 0)
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
