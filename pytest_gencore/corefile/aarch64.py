"""Registers of aarch64: ``struct user_pt_regs`` and the records of a signal frame.

The records, ``struct _aarch64_ctx`` and what follows it, are those of
``arch/arm64/include/uapi/asm/sigcontext.h``: magic, size, contents, one behind the other, the last with
magic 0.
"""

from __future__ import annotations

import struct
from typing import Final

from pytest_gencore.corefile.constants import NOTE_CORE, NOTE_LINUX, NT_ARM_TLS, NT_FPREGSET
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


def thread_notes(area: bytes, thread_pointer: int) -> list[Note]:
    """Return the floating point registers of a signal frame, if it has them, and the thread pointer."""
    return [*floating_point_notes(area), tls_note(thread_pointer)]


def floating_point_notes(area: bytes) -> list[Note]:
    """Turn the records of a signal frame into NT_FPREGSET, a ``struct user_fpsimd_state`` of <asm/ptrace.h>.

    Scalable vectors (SVE) are not kept: NT_FPREGSET holds their lower 128 bits.
    """
    offset = 0
    while offset + _RECORD.size <= len(area):
        magic, size = _RECORD.unpack_from(area, offset)
        if size < _RECORD.size or offset + size > len(area):
            return []
        if magic == _FPSIMD_MAGIC and size >= _FPSIMD_SIZE:
            record = area[offset : offset + _FPSIMD_SIZE]
            state = record[_VECTORS_OFFSET:] + record[_RECORD.size : _VECTORS_OFFSET] + bytes(8)
            return [Note(NOTE_CORE, NT_FPREGSET, state)]
        offset += size
    return []


def tls_note(thread_pointer: int) -> Note:
    """Build the note with TPIDR_EL0, without which debuggers find no thread-local variables."""
    return Note(NOTE_LINUX, NT_ARM_TLS, struct.pack("<Q", thread_pointer))


def call_target(code: bytes, address: int) -> int | None:
    """Return the target of a ``bl`` that ends the code and returns to the address, None without."""
    if len(code) < _INSTRUCTION.size:
        return None
    (word,) = _INSTRUCTION.unpack_from(code, len(code) - _INSTRUCTION.size)
    if word >> 26 != _BL:
        return None
    distance = (word & (1 << 26) - 1) - ((word & 1 << 25) << 1)
    return int(address + 4 * (distance - 1))
