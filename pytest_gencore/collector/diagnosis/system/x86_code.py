"""The constant in the code of x86-64 that says which system call is made.

The kernel puts its result into ``eax``, so after a call only the instruction that loaded the number has it.
"""

from __future__ import annotations

from typing import Final

_PREFIXES: Final = (0x66, 0x64, 0xF3)
_INSTRUCTIONS: Final[dict[int, tuple[str, int]]] = {
    **dict.fromkeys((0x8B, 0x8D, 0x63, 0x33, 0x03, 0x2B, 0x23, 0x0B), ("reg", 0)),
    **dict.fromkeys((0x89, 0x31, 0x01, 0x29, 0x21, 0x09), ("rm", 0)),
    **dict.fromkeys((0x39, 0x3B, 0x85, 0x38, 0x3A, 0x84), ("", 0)),
    **dict.fromkeys((0x83, 0x80, 0xC6), ("rm", 1)),
    **dict.fromkeys((0x81, 0xC7), ("rm", 4)),
    **dict.fromkeys((0x0FB6, 0x0FB7, *range(0x0F40, 0x0F50)), ("reg", 0)),
    **dict.fromkeys((0x0F10, 0x0F11, 0x0F16, 0x0F17, 0x0F28, 0x0F29, 0x0F6F, 0x0F7F, 0x0FD6), ("", 0)),
    0x0F1F: ("", 0),
}
"""Which operand an instruction with a ModRM byte writes, and how many bytes of a constant end it.

Moves, additions, comparisons, conditional moves, moves of vectors, and the long nop.
"""
_ON_BYTES: Final = (0x80, 0xC6)


def number_set_before(code: bytes) -> int | None:
    """Return the constant that ``eax`` has at the end of the code, None if that is not known.

    A constant counts if nothing but instructions that we know lead from it to the end, without another value
    for ``eax`` and without a jump or call that is always taken.
    """
    for start in range(len(code) - 2, -1, -1):
        constant, behind = _constant_at(code, start)
        if constant is not None and _leads_to_end(code, behind):
            return constant
    return None


def _constant_at(code: bytes, start: int) -> tuple[int | None, int]:
    """Return what an instruction there loads into ``eax``, and where the next one is."""
    if code[start] == 0xB8 and start + 5 <= len(code):  # mov $constant, %eax
        return int.from_bytes(code[start + 1 : start + 5], "little"), start + 5
    if code[start] in (0x31, 0x33) and code[start + 1] == 0xC0:  # xor %eax, %eax
        return 0, start + 2
    return None, start


def _leads_to_end(code: bytes, position: int) -> bool:
    while position < len(code):
        length = _length_of_harmless(code[position:])
        if not length:
            return False
        position += length
    return position == len(code)


def _length_of_harmless(code: bytes) -> int:
    """Return the length of an instruction that keeps ``eax`` and goes on to the next one; 0 for others."""
    at = 0
    while at < len(code) and code[at] in _PREFIXES:
        at += 1
    rex = code[at] if at < len(code) and 0x40 <= code[at] <= 0x4F else 0
    at += bool(rex)
    if at >= len(code):
        return 0
    opcode = code[at]
    if 0x70 <= opcode <= 0x7F:  # a jump that may not be taken
        return at + 2
    if opcode == 0x0F and 0x80 <= code[at + 1 : at + 2].ljust(1, b"\0")[0] <= 0x8F:
        return at + 6
    is_eax = opcode & 7 == 0 and not rex & 1
    if opcode == 0x90 or 0x50 <= opcode <= 0x57 or (0x58 <= opcode <= 0x5F and not is_eax):  # nop, push, pop
        return at + 1
    if 0xB8 <= opcode <= 0xBF and not is_eax and not rex & 8:  # mov $constant
        return at + 5
    return _length_with_modrm(code, at, rex)


def _length_with_modrm(code: bytes, at: int, rex: int) -> int:
    opcode = code[at]
    if opcode == 0x0F and at + 1 < len(code):
        at += 1
        opcode = opcode << 8 | code[at]
    at += 1
    if opcode not in _INSTRUCTIONS or at >= len(code):
        return 0
    written, constant = _INSTRUCTIONS[opcode]
    mode, reg, rm = code[at] >> 6, code[at] >> 3 & 7, code[at] & 7
    has_part_of_eax = opcode in _ON_BYTES and mode == 3 and not rex  # al or ah
    is_eax_written = (written == "reg" and reg == 0 and not rex & 4) or (
        written == "rm" and mode == 3 and rm == 0 and not rex & 1
    )
    if has_part_of_eax or is_eax_written:
        return 0
    return at + 1 + _size_of_address(code, at + 1, mode, rm) + constant


def _size_of_address(code: bytes, at: int, mode: int, rm: int) -> int:
    """Return the bytes that follow the ModRM byte."""
    size = (0, 1, 4, 0)[mode]
    if mode == 3:
        return 0
    if rm == 4:  # a SIB byte
        has_no_base = mode == 0 and at < len(code) and code[at] & 7 == 5
        return size + (5 if has_no_base else 1)
    return 4 if mode == 0 and rm == 5 else size
