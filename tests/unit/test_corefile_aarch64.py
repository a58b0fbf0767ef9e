"""What becomes of the records of a signal frame of aarch64: <asm/sigcontext.h>, <asm/ptrace.h>."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gencore.corefile.constants import (
    NT_ARM_PAC_MASK,
    NT_ARM_SSVE,
    NT_ARM_SVE,
    NT_ARM_TLS,
    NT_ARM_ZA,
    NT_ARM_ZT,
    NT_FPREGSET,
)
from pytest_gencore.corefile.machines import AARCH64
from pytest_gencore.corefile.notes import Note


def fpsimd_record() -> bytes:
    return struct.pack("<IIII", 0x46508001, 528, 0x11, 0x22) + bytes(range(256)) * 2


STATE = bytes(range(256)) * 2 + struct.pack("<II", 0x11, 0x22) + bytes(8)
"""``struct user_fpsimd_state`` of that record."""
TLS_NOTE = Note("LINUX", NT_ARM_TLS, struct.pack("<Q", 0x1234))


@pytest.mark.parametrize("before", [b"", struct.pack("<II", 0x45535201, 16) + bytes(8)])
def test_frame(before: bytes) -> None:
    notes = AARCH64.thread_notes(before + fpsimd_record() + bytes(8), 0x1234, 0)

    assert notes == [Note("CORE", NT_FPREGSET, STATE), TLS_NOTE]
    assert len(STATE) == 528


@pytest.mark.parametrize("area", [b"", bytes(8), struct.pack("<II", 1, 2**31), fpsimd_record()[:-1]])
def test_area_without_the_record_gives_the_thread_pointer(area: bytes) -> None:
    assert AARCH64.thread_notes(area, 0x1234, 0) == [TLS_NOTE]


def sve_record(length: int, registers: bytes = b"", flags: int = 0) -> bytes:
    """``struct sve_context``, with the registers if they are live; padded as the kernel pads it."""
    size = 16 + len(registers) + -len(registers) % 16
    head = struct.pack("<IIHHxxxx", 0x53564501, size, length, flags)
    return (head + registers).ljust(size, b"\0")


def live_registers(length: int) -> bytes:
    return bytes(index % 249 for index in range(32 * length + 17 * length // 8))


@pytest.mark.parametrize(("flags", "note"), [(0, NT_ARM_SVE), (1, NT_ARM_SSVE)])
@pytest.mark.parametrize("length", [16, 32, 48, 256])
def test_scalable_vectors(length: int, flags: int, note: int) -> None:
    """32 vectors, 16 predicates and FFR as in the frame; fpsr and fpcr at the next multiple of 16."""
    registers = live_registers(length)
    area = fpsimd_record() + sve_record(length, registers, flags) + bytes(16)

    fpregset, tls, sve = AARCH64.thread_notes(area, 0x1234, 0)

    assert (fpregset.desc, tls, sve.name, sve.type) == (STATE, TLS_NOTE, "LINUX", note)
    size, largest, *rest = struct.unpack_from("<IIHHHH", sve.desc)
    assert (size, largest, *rest) == (len(sve.desc), len(sve.desc), length, length, 1, 0)
    assert len(sve.desc) % 16 == 0
    assert sve.desc[16 : 16 + len(registers)] == registers
    assert sve.desc[-16:] == struct.pack("<II", 0x11, 0x22) + bytes(8)
    assert not any(sve.desc[16 + len(registers) : -16])


def test_vectors_that_are_not_live() -> None:
    """A system call has cleared them but for the lower 128 bits: SVE_PT_REGS_FPSIMD."""
    *_, sve = AARCH64.thread_notes(fpsimd_record() + sve_record(32), 0, 0)

    assert sve.desc == struct.pack("<IIHHHH", 544, 16 + 1024 + 80 + 16, 32, 32, 0, 0) + STATE


def test_records_that_go_on_elsewhere() -> None:
    """As the kernel lays them out: extra_context, a zero record of 16 bytes, and what it points to."""
    extra = struct.pack("<IIQI", 0x45585401, 32, 0, 0) + bytes(12)
    live = sve_record(256, live_registers(256))

    *_, sve = AARCH64.thread_notes(fpsimd_record() + extra + bytes(16) + live + bytes(16), 0, 0)

    assert sve == AARCH64.thread_notes(fpsimd_record() + live, 0, 0)[-1]


@pytest.mark.parametrize(
    "damaged",
    [
        sve_record(0),
        sve_record(17),
        sve_record(32, live_registers(32))[:-17],
        struct.pack("<II", 0x53564501, 12) + bytes(4),
        bytes(16) + sve_record(32),
    ],
)
def test_record_that_is_no_scalable_state(damaged: bytes) -> None:
    notes = AARCH64.thread_notes(fpsimd_record() + damaged + bytes(16), 0x1234, 0)

    assert notes == [Note("CORE", NT_FPREGSET, STATE), TLS_NOTE]


def record(magic: int, contents: bytes) -> bytes:
    return struct.pack("<II", magic, 8 + len(contents)) + contents


def matrix_record(length: int, rows: bytes = b"") -> bytes:
    """``struct za_context``, with the matrix if it is on."""
    return record(0x54366345, struct.pack("<Hxxxxxx", length) + rows)


def second_pointer_record(pointer: int) -> bytes:
    """``struct tpidr2_context``"""
    return record(0x54504902, struct.pack("<Q", pointer))


def lookup_record(registers: bytes) -> bytes:
    """``struct zt_context``"""
    return record(0x5A544E01, struct.pack("<Hxxxxxx", len(registers) // 64) + registers)


def test_matrix_that_is_on() -> None:
    """``struct user_za_header``: size, largest, length, longest, flags; then the rows as in the frame."""
    rows = bytes(index % 253 for index in range(32 * 32))
    table = bytes(range(64))
    area = fpsimd_record() + second_pointer_record(0x5678) + matrix_record(32, rows) + lookup_record(table)

    _, tls, streaming, matrix, lookup = AARCH64.thread_notes(area + bytes(16), 0x1234, 0)

    assert tls == Note("LINUX", NT_ARM_TLS, struct.pack("<QQ", 0x1234, 0x5678))
    assert (streaming.type, len(streaming.desc)) == (NT_ARM_SSVE, 544)
    assert matrix == Note("LINUX", NT_ARM_ZA, struct.pack("<IIHHHH", 1040, 1040, 32, 32, 0, 0) + rows)
    assert lookup == Note("LINUX", NT_ARM_ZT, table)


def test_matrix_in_the_streaming_mode() -> None:
    area = fpsimd_record() + sve_record(32, live_registers(32), flags=1) + matrix_record(32) + bytes(16)

    types = [note.type for note in AARCH64.thread_notes(area, 0x1234, 0)]

    assert types == [NT_FPREGSET, NT_ARM_TLS, NT_ARM_SSVE, NT_ARM_ZA]


def test_matrix_that_is_off() -> None:
    """A thread outside of the streaming mode has a note that says so."""
    area = fpsimd_record() + sve_record(64) + second_pointer_record(0) + matrix_record(32) + bytes(16)

    _, tls, sve, streaming, matrix = AARCH64.thread_notes(area, 0x1234, 0)

    assert (len(tls.desc), sve.type) == (16, NT_ARM_SVE)
    assert streaming.type == NT_ARM_SSVE
    assert streaming.desc == struct.pack("<IIHHHH", 544, 16 + 1024 + 80 + 16, 32, 32, 0, 0) + STATE
    assert matrix == Note("LINUX", NT_ARM_ZA, struct.pack("<IIHHHH", 16, 1040, 32, 32, 0, 0))


@pytest.mark.parametrize(
    "damaged", [matrix_record(0), matrix_record(17), record(0x54366345, b""), record(0x54504902, bytes(4))]
)
def test_record_that_is_no_matrix(damaged: bytes) -> None:
    notes = AARCH64.thread_notes(fpsimd_record() + damaged + bytes(16), 0x1234, 0)

    assert notes == [Note("CORE", NT_FPREGSET, STATE), TLS_NOTE]


LENGTHS = st.integers(0, 2**16 - 1)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.just(fpsimd_record()),
            st.builds(sve_record, LENGTHS, st.binary(max_size=40), LENGTHS),
            st.builds(matrix_record, LENGTHS, st.binary(max_size=400)),
            st.builds(lookup_record, st.binary(max_size=80)),
        ),
        max_size=5,
    )
)
def test_garbage_gives_notes_or_none(parts: list[bytes]) -> None:
    """No note twice, the thread pointer always, each header with its own size."""
    notes = AARCH64.thread_notes(b"".join(parts), 0, 0)
    types = [note.type for note in notes]

    assert len(types) == len(set(types))
    assert NT_ARM_TLS in types
    for note in notes:
        if note.type in {NT_ARM_SVE, NT_ARM_SSVE, NT_ARM_ZA}:
            assert struct.unpack_from("<I", note.desc) == (len(note.desc),)


def test_signed_bits() -> None:
    mask = (1 << 55) - (1 << 48)

    assert AARCH64.thread_notes(b"", 0x1234, mask) == [
        TLS_NOTE,
        Note("LINUX", NT_ARM_PAC_MASK, struct.pack("<QQ", mask, mask)),
    ]
