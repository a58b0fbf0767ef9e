"""Registers of x86-64: ``struct user_regs_struct`` of <sys/user.h> and floating point in signal frames.

The area is ``struct _xstate`` of ``arch/x86/include/uapi/asm/sigcontext.h``: the 512 bytes of FXSAVE, whose
bytes 464 to 511 hold a ``struct _fpx_sw_bytes``, and, where that says so, the rest of an XSAVE area in the
standard (not compacted) format of the Intel manual, volume 1, chapter 13.
"""

from __future__ import annotations

import struct
from typing import Final

from pytest_gencore.corefile.constants import NOTE_CORE, NOTE_LINUX, NT_FPREGSET, NT_X86_XSTATE
from pytest_gencore.corefile.notes import Note

EM_X86_64: Final = 62
"""``e_machine`` of <elf.h>."""
REGISTERS: Final = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)

FXSAVE_SIZE: Final = 512
_CALL = struct.Struct("<Bi")
_CALL_OPCODE: Final = 0xE8
_FP_XSTATE_MAGIC1: Final = 0x46505853
_SOFTWARE = struct.Struct("<IIQI")
"""``magic1``, ``extended_size``, ``xfeatures``, ``xstate_size`` of ``struct _fpx_sw_bytes``."""
_SOFTWARE_OFFSET: Final = 464
_PADDING_OFFSET: Final = 416
_HEADER_END: Final = FXSAVE_SIZE + 64
"""End of the XSAVE header: XSTATE_BV, XCOMP_BV and 48 reserved bytes."""
_XSTATE_SIZE_LIMIT: Final = 1 << 20
"""More than any processor has (AMX: 11 KiB); the size comes from the memory of a crashing process."""

_X87: Final = 1
_SSE: Final = 2
_INITIAL_FCW: Final = struct.pack("<H", 0x37F)
_INITIAL_MXCSR: Final = struct.pack("<I", 0x1F80)
_XMM_OFFSET: Final = 160
_MXCSR_OFFSET: Final = 24


def thread_notes(area: bytes, _thread_pointer: int, _signed_bits: int) -> list[Note]:
    """Return the floating point registers of a signal frame; the thread pointer is in NT_PRSTATUS."""
    return floating_point_notes(area)


def floating_point_notes(area: bytes) -> list[Note]:
    """Turn the floating point area of a signal frame into NT_FPREGSET and, if it has one, NT_X86_XSTATE.

    The results are what ``copy_xstate_to_uabi_buf`` in ``arch/x86/kernel/fpu/xstate.c`` gives a core: no
    bytes of the stack in the padding, components that XSTATE_BV leaves out in their initial state, and the
    features that the system has switched on (XCR0) in bytes 464 to 471.
    """
    if len(area) < FXSAVE_SIZE:
        return []
    magic, _, features, size = _SOFTWARE.unpack_from(area, _SOFTWARE_OFFSET)
    if magic != _FP_XSTATE_MAGIC1 or not _HEADER_END <= size <= min(len(area), _XSTATE_SIZE_LIMIT):
        return [Note(NOTE_CORE, NT_FPREGSET, _legacy_area(area, _X87 | _SSE))]
    (present,) = struct.unpack_from("<Q", area, FXSAVE_SIZE)
    present &= features
    legacy = _legacy_area(area, present)
    components = area[_HEADER_END:size] if present & ~(_X87 | _SSE) else bytes(size - _HEADER_END)
    xstate = b"".join(
        (
            legacy[:_SOFTWARE_OFFSET],
            struct.pack("<Q", features).ljust(FXSAVE_SIZE - _SOFTWARE_OFFSET, b"\0"),
            struct.pack("<Q", present).ljust(_HEADER_END - FXSAVE_SIZE, b"\0"),
            components,
        )
    )
    return [Note(NOTE_CORE, NT_FPREGSET, legacy), Note(NOTE_LINUX, NT_X86_XSTATE, xstate)]


def _legacy_area(area: bytes, present: int) -> bytes:
    legacy = bytearray(area[:_PADDING_OFFSET].ljust(FXSAVE_SIZE, b"\0"))
    if not present & _X87:
        legacy[:_MXCSR_OFFSET] = _INITIAL_FCW.ljust(_MXCSR_OFFSET, b"\0")
        legacy[_MXCSR_OFFSET + 8 : _XMM_OFFSET] = bytes(_XMM_OFFSET - _MXCSR_OFFSET - 8)
    if not present & _SSE:
        legacy[_XMM_OFFSET:_PADDING_OFFSET] = bytes(_PADDING_OFFSET - _XMM_OFFSET)
        if not present & ~_X87:
            legacy[_MXCSR_OFFSET : _MXCSR_OFFSET + 4] = _INITIAL_MXCSR
    return bytes(legacy)


def call_target(code: bytes, address: int) -> int | None:
    """Return the target of a ``call rel32`` that ends the code and returns to the address, None without."""
    if len(code) < _CALL.size:
        return None
    opcode, offset = _CALL.unpack_from(code, len(code) - _CALL.size)
    return address + offset if opcode == _CALL_OPCODE else None
