from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gencore.corefile.constants import NT_FPREGSET, NT_X86_XSTATE
from pytest_gencore.corefile.machines import AARCH64, MACHINES, X86_64, Machine, machine_by_elf, machine_for
from pytest_gencore.corefile.mapped_files import MappedFile, build_nt_file, parse_nt_file
from pytest_gencore.corefile.notes import CoreFormatError, Note, build_notes, parse_notes
from pytest_gencore.corefile.process_notes import (
    CpuTimes,
    PrPsInfo,
    PrStatus,
    build_prpsinfo,
    build_prstatus,
    build_siginfo,
    parse_prpsinfo,
    parse_prstatus,
    with_tid,
)

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
note_lists = st.lists(st.builds(Note, names, st.integers(0, 2**32 - 1), st.binary(max_size=40)), max_size=6)
words = st.integers(0, 2**64 - 1)
ids = st.integers(-(2**31), 2**31 - 1)


@given(note_lists)
def test_notes_round_trip(notes: list[Note]) -> None:
    data = build_notes(notes)
    assert len(data) % 4 == 0
    assert parse_notes(data) == notes


@given(note_lists, st.integers(0, 400))
def test_cut_notes_are_an_error_or_a_beginning(notes: list[Note], size: int) -> None:
    data = build_notes(notes)[:size]
    beginning = parse_notes(data, allow_cut=True)
    assert beginning == notes[: len(beginning)]
    try:
        assert parse_notes(data) == beginning
    except CoreFormatError:
        assert len(beginning) < len(notes)


@given(st.binary(max_size=200), st.sampled_from([4, 8]))
def test_garbage_is_notes_or_a_format_error(data: bytes, align: int) -> None:
    try:
        notes = parse_notes(data, align=align)
    except CoreFormatError:
        return
    assert sum(len(note.desc) for note in notes) <= len(data)


def test_note_layout_is_that_of_elf() -> None:
    assert build_notes([Note("CORE", 1, b"abcde")]) == (
        bytes.fromhex("05000000 05000000 01000000") + b"CORE\0\0\0\0" + b"abcde\0\0\0"
    )


def test_huge_sizes_are_refused() -> None:
    with pytest.raises(CoreFormatError, match="reaches beyond"):
        parse_notes(struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFFF, 1) + bytes(100))


mapped_files = st.builds(
    MappedFile,
    words,
    words,
    st.integers(0, 2**40).map(lambda pages: pages * 4096),
    st.binary(min_size=1, max_size=30).filter(lambda path: b"\0" not in path),
)


@given(st.lists(mapped_files, max_size=6))
def test_mapped_files_round_trip(files: list[MappedFile]) -> None:
    assert parse_nt_file(build_nt_file(files, 4096)) == files


@given(st.binary(max_size=120))
def test_garbage_is_mapped_files_or_a_format_error(data: bytes) -> None:
    try:
        files = parse_nt_file(data)
    except CoreFormatError:
        return
    assert len(files) * 24 <= len(data)


def test_mapped_files_without_paths_are_refused() -> None:
    desc = build_nt_file([MappedFile(0, 1, 0, b"/a"), MappedFile(1, 2, 0, b"/b")], 4096)
    with pytest.raises(CoreFormatError, match="only 1 paths"):
        parse_nt_file(desc[:-3])
    with pytest.raises(CoreFormatError, match="no room"):
        parse_nt_file(struct.pack("<QQ", 2**60, 4096))


@pytest.mark.parametrize(("machine", "size", "registers"), [(X86_64, 336, 27), (AARCH64, 392, 34)])
def test_sizes_of_prstatus(machine: Machine, size: int, registers: int) -> None:
    status = PrStatus(tid=1, registers=(0,) * registers)
    assert len(build_prstatus(machine, status)) == machine.prstatus_size == size


@given(
    machine=st.sampled_from(MACHINES),
    data=st.data(),
    numbers=st.tuples(ids, ids, ids, ids),
    signal=st.integers(0, 64),
    sets=st.tuples(words, words),
)
def test_prstatus_round_trip(
    machine: Machine,
    data: st.DataObject,
    numbers: tuple[int, int, int, int],
    signal: int,
    sets: tuple[int, int],
) -> None:
    count = len(machine.registers)
    status = PrStatus(
        tid=numbers[0],
        ppid=numbers[1],
        pgrp=numbers[2],
        sid=numbers[3],
        signal=signal,
        pending=sets[0],
        blocked=sets[1],
        times=CpuTimes(user=(1, 2), system=(3, 4), children_user=(5, 6), children_system=(7, 8)),
        registers=tuple(data.draw(st.lists(words, min_size=count, max_size=count))),
    )
    desc = build_prstatus(machine, status)
    assert parse_prstatus(machine, desc) == status
    assert parse_prstatus(machine, with_tid(desc, 77)).tid == 77
    assert with_tid(with_tid(desc, 77), status.tid) == desc


def test_prstatus_of_another_machine_is_refused() -> None:
    desc = build_prstatus(AARCH64, PrStatus(tid=1, registers=(0,) * 34))
    with pytest.raises(CoreFormatError, match="336"):
        parse_prstatus(X86_64, desc)
    with pytest.raises(ValueError, match="27 registers"):
        build_prstatus(X86_64, PrStatus(tid=1, registers=(0,) * 34))


def test_prpsinfo_round_trip_and_limits() -> None:
    info = PrPsInfo(
        state=2, nice=-5, flags=0x400600, uid=1000, gid=100, pid=3, ppid=2, pgrp=3, sid=1,
        fname=b"a-name-that-is-too-long", psargs=b"x" * 200,
    )  # fmt: skip
    desc = build_prpsinfo(info)
    assert len(desc) == 136
    assert desc[1:2] == b"D"
    parsed = parse_prpsinfo(desc)
    assert (parsed.fname, parsed.psargs) == (b"a-name-that-is-", b"x" * 79)
    assert build_prpsinfo(parsed) == desc
    with pytest.raises(CoreFormatError, match="136"):
        parse_prpsinfo(desc[:-1])


def test_siginfo() -> None:
    fault = build_siginfo(11, 1, address=0xDEADBEEF)
    assert (len(fault), struct.unpack_from("<iiixxxxQ", fault)) == (128, (11, 0, 1, 0xDEADBEEF))
    sent = build_siginfo(6, -6, errno=3, sender=(42, 1000))
    assert (len(sent), struct.unpack_from("<iiixxxxiI", sent)) == (128, (6, 3, -6, 42, 1000))
    with pytest.raises(ValueError, match="same bytes"):
        build_siginfo(6, 0, address=1, sender=(1, 1))


def test_machines_are_found_by_name_and_number() -> None:
    assert machine_for("x86_64") is X86_64
    assert machine_for("aarch64") is AARCH64
    assert machine_for("riscv64") is None
    assert machine_by_elf(62) is X86_64
    assert machine_by_elf(183) is AARCH64
    assert machine_by_elf(8) is None


def signal_frame(present: int, features: int = 0b111, size: int = 832) -> bytes:
    """A floating point area as the x86-64 kernel leaves it on the stack: 0xEE is what was there before."""
    area = bytearray(b"\xee" * size)
    area[:416] = bytes(index % 251 for index in range(416))
    area[464:512] = struct.pack("<IIQI", 0x46505853, size + 4, features, size).ljust(48, b"\xee")
    area[512:576] = struct.pack("<Q", present).ljust(64, b"\0")
    area[576:] = b"\x99" * (size - 576)
    return bytes(area) + struct.pack("<I", 0x46505845)


def test_x86_frame_becomes_what_the_kernel_puts_into_a_core() -> None:
    area = signal_frame(0b111)
    fpregset, xstate = X86_64.thread_notes(area, 0, 0)
    assert (fpregset.name, fpregset.type) == ("CORE", NT_FPREGSET)
    assert fpregset.desc == area[:416] + bytes(96)
    assert (xstate.name, xstate.type) == ("LINUX", NT_X86_XSTATE)
    assert xstate.desc == (
        area[:416] + bytes(48) + struct.pack("<Q", 7) + bytes(40) + area[512:576] + b"\x99" * 256
    )


def test_x86_components_that_are_not_present_are_in_their_initial_state() -> None:
    fpregset, xstate = X86_64.thread_notes(signal_frame(0), 0, 0)
    assert struct.unpack_from("<H", fpregset.desc) == (0x37F,)
    assert struct.unpack_from("<I", fpregset.desc, 24) == (0x1F80,)
    assert not any(fpregset.desc[32:])
    assert xstate.desc[576:] == bytes(256)

    sse_only, _ = X86_64.thread_notes(signal_frame(0b010), 0, 0)
    assert struct.unpack_from("<H", sse_only.desc) == (0x37F,)
    assert sse_only.desc[160:416] == signal_frame(0)[160:416]


@pytest.mark.parametrize("damage", ["magic", "size", "cut"])
def test_x86_frame_without_xsave_gives_fxsave_only(damage: str) -> None:
    area = bytearray(signal_frame(0b111))
    if damage == "magic":
        area[464:468] = bytes(4)
    elif damage == "size":
        area[480:484] = b"\xff" * 4
    else:
        del area[700:]
    (note,) = X86_64.thread_notes(bytes(area), 0, 0)
    assert (note.type, len(note.desc)) == (NT_FPREGSET, 512)


def test_x86_area_that_is_too_short_gives_nothing() -> None:
    assert X86_64.thread_notes(bytes(511), 0, 0) == []
