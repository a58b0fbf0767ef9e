"""Registers of aarch64: ``struct user_pt_regs`` and the records of a signal frame.

The records, ``struct _aarch64_ctx`` and what follows it, are those of
``arch/arm64/include/uapi/asm/sigcontext.h``: magic, size, contents, one behind the other, the last with
magic 0.
"""

from __future__ import annotations

import struct
from typing import Final

from pytest_gencore.corefile.constants import (
    NOTE_CORE,
    NOTE_LINUX,
    NT_ARM_PAC_MASK,
    NT_ARM_SSVE,
    NT_ARM_SVE,
    NT_ARM_TLS,
    NT_ARM_ZA,
    NT_ARM_ZT,
    NT_FPREGSET,
)
from pytest_gencore.corefile.notes import Note

EM_AARCH64: Final = 183
"""``e_machine`` of <elf.h>."""
REGISTERS: Final = (*(f"x{number}" for number in range(31)), "sp", "pc", "pstate")

_BL: Final = 0b100101
"""The six highest bits; the others are the distance in instructions, signed."""
_INSTRUCTION = struct.Struct("<I")
_RECORD = struct.Struct("<II")
_FPSIMD_MAGIC: Final = 0x46508001
_FPSIMD_SIZE: Final = 528
_VECTORS_OFFSET: Final = 16
"""Behind the record's head, ``fpsr`` and ``fpcr``; 32 registers of 16 bytes."""
_STATUS_OFFSET: Final = 512
"""Of ``fpsr`` and ``fpcr``, and 8 bytes that are 0, in ``struct user_fpsimd_state``."""
_EXTRA_MAGIC: Final = 0x45585401
_SVE_MAGIC: Final = 0x53564501
_SVE_HEAD = struct.Struct("<IIHHxxxx")
"""Of ``struct sve_context``: magic, size, bytes of a vector, flags; the registers follow."""
_STREAMING: Final = 1
"""``SVE_SIG_FLAG_SM``"""
_VECTOR_SIZE: Final = 16
"""What a vector's length is a multiple of, and its registers, and the records."""
_TPIDR2_MAGIC: Final = 0x54504902
_TPIDR2_SIZE: Final = 16
"""Of ``struct tpidr2_context``: the head, and the register."""
_ZA_MAGIC: Final = 0x54366345
_ZA_HEAD = struct.Struct("<IIHxxxxxx")
"""Of ``struct za_context``: magic, size, bytes of a row; the matrix follows if it is on."""
_ZT_MAGIC: Final = 0x5A544E01
_ZT_HEAD_SIZE: Final = 16
_ZT_SIZE: Final = 64
_LENGTHS = struct.Struct("<IIHHHH")
"""``struct user_sve_header`` and ``user_za_header``: size, largest size, bytes of a vector, of the longest
one, flags, 0."""
_MASKS = struct.Struct("<QQ")
"""``struct user_pac_mask`` of <asm/ptrace.h>: of addresses of data, and of code."""


def thread_notes(area: bytes, thread_pointer: int, signed_bits: int) -> list[Note]:
    """Return what the records of a signal frame tell, the thread pointer, and which bits are a signature."""
    records = _find_records(area)
    fpsimd = _fpsimd_state(records)
    return [
        *([Note(NOTE_CORE, NT_FPREGSET, fpsimd)] if fpsimd else []),
        Note(NOTE_LINUX, NT_ARM_TLS, struct.pack("<Q", thread_pointer) + _second_pointer(records)),
        *_scalable_state(records, fpsimd),
        *_matrix_state(records, fpsimd),
        *([Note(NOTE_LINUX, NT_ARM_PAC_MASK, _MASKS.pack(signed_bits, signed_bits))] if signed_bits else []),
    ]


def _find_records(area: bytes) -> dict[int, bytes]:
    """Return the records of a signal frame by their magic, each with its head.

    The list ends with a zero; if it has a record ``extra_context``, more of them follow at the next multiple
    of 16.
    """
    records: dict[int, bytes] = {}
    offset = 0
    has_more = False
    while offset + _RECORD.size <= len(area):
        magic, size = _RECORD.unpack_from(area, offset)
        if magic == size == 0 and has_more:
            has_more = False
            offset += _VECTOR_SIZE
            continue
        if size < _RECORD.size or offset + size > len(area):
            break
        has_more = has_more or magic == _EXTRA_MAGIC
        records[magic] = area[offset : offset + size]
        offset += size
    return records


def _fpsimd_state(records: dict[int, bytes]) -> bytes:
    """Return ``struct user_fpsimd_state`` of <asm/ptrace.h>: 128 bits of each vector, and the status."""
    record = records.get(_FPSIMD_MAGIC, b"")
    if len(record) < _FPSIMD_SIZE:
        return b""
    return record[_VECTORS_OFFSET:_FPSIMD_SIZE] + record[_RECORD.size : _VECTORS_OFFSET] + bytes(8)


def _scalable_state(records: dict[int, bytes], fpsimd: bytes) -> list[Note]:
    """Return ``struct user_sve_header`` of <asm/ptrace.h> and what follows it; nothing if there is no SVE.

    That is the scalable registers if they were in use; else, as after every system call, only their lower 128
    bits, which NT_FPREGSET has as well. The longest vector that the processor has is not known: the header
    has that of the thread.
    """
    record = records.get(_SVE_MAGIC, b"")
    if len(record) < _SVE_HEAD.size or not fpsimd:
        return []
    _, size, length, flags = _SVE_HEAD.unpack_from(record)
    if not length or length % _VECTOR_SIZE:
        return []
    in_use, padded = _registers_size(length)
    if size < _SVE_HEAD.size + in_use:
        kind, contents = 0, fpsimd
    else:
        registers = record[_SVE_HEAD.size :][:in_use]
        kind, contents = 1, registers.ljust(padded, b"\0") + fpsimd[_STATUS_OFFSET:]
    head = _lengths(len(contents), padded + _VECTOR_SIZE, length, kind)
    return [Note(NOTE_LINUX, NT_ARM_SSVE if flags & _STREAMING else NT_ARM_SVE, head + contents)]


def _matrix_state(records: dict[int, bytes], fpsimd: bytes) -> list[Note]:
    """Return the other notes of SME: ``struct user_za_header``, and if it is on the matrix, and ZT0.

    A thread that is not in the streaming mode has the note of it as Linux wrote it until 6.15. The later one
    ends with its head, and gdb 16 takes that, or none, for any mode.
    """
    record = records.get(_ZA_MAGIC, b"")
    if len(record) < _ZA_HEAD.size:
        return []
    _, _, length = _ZA_HEAD.unpack_from(record)
    if not length or length % _VECTOR_SIZE:
        return []
    contents = record[_ZA_HEAD.size :][: length * length]
    if len(contents) < length * length:
        contents = b""
    mode = records.get(_SVE_MAGIC, b"").ljust(_SVE_HEAD.size, b"\0")
    is_streaming = _SVE_HEAD.unpack_from(mode)[3] & _STREAMING
    off = _lengths(len(fpsimd), _registers_size(length)[1] + _VECTOR_SIZE, length, 0) + fpsimd
    table = records.get(_ZT_MAGIC, b"")[_ZT_HEAD_SIZE:][:_ZT_SIZE]
    return [
        *([Note(NOTE_LINUX, NT_ARM_SSVE, off)] if fpsimd and not is_streaming else []),
        Note(NOTE_LINUX, NT_ARM_ZA, _lengths(len(contents), length * length, length, 0) + contents),
        *([Note(NOTE_LINUX, NT_ARM_ZT, table)] if len(table) == _ZT_SIZE else []),
    ]


def _registers_size(length: int) -> tuple[int, int]:
    """Return the bytes of vectors and predicates, a bit for each byte: <asm/sve_context.h>; then padded."""
    size = 32 * length + 17 * (length // 8)
    return size, size + -size % _VECTOR_SIZE


def _lengths(size: int, largest: int, length: int, flags: int) -> bytes:
    head = _LENGTHS.size
    return _LENGTHS.pack(head + size, head + largest, length, length, flags, 0)


def _second_pointer(records: dict[int, bytes]) -> bytes:
    """Return TPIDR2_EL0, nothing without SME."""
    record = records.get(_TPIDR2_MAGIC, b"")
    return record[_RECORD.size :] if len(record) == _TPIDR2_SIZE else b""


def call_target(code: bytes, address: int) -> int | None:
    """Return the target of a ``bl`` that ends the code and returns to the address, None without."""
    if len(code) < _INSTRUCTION.size:
        return None
    (word,) = _INSTRUCTION.unpack_from(code, len(code) - _INSTRUCTION.size)
    if word >> 26 != _BL:
        return None
    distance = (word & (1 << 26) - 1) - ((word & 1 << 25) << 1)
    return int(address + 4 * (distance - 1))
