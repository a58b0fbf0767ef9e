"""Which system call an interrupted thread was in, by its registers and the code that it was at.

A signal interrupts a call in one of two ways, see signal(7). Either the call is started again after the
handler: then the program counter is at the instruction that makes it, and all arguments are where they were.
Or it returns EINTR: then the program counter is behind that instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.collector.diagnosis.system.x86_code import number_set_before

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_EINTR: Final = (1 << 64) - 4
_SYSCALL: Final = b"\x0f\x05"
_SVC: Final = b"\x01\x00\x00\xd4"
_WINDOW: Final = 64
"""Bytes of code before the instruction that are looked at."""
_X86_ARGUMENTS: Final = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


class RawCall(NamedTuple):
    """A system call as registers have it."""

    number: int
    arguments: tuple[int | None, ...]
    """Six; None for one whose register the kernel has overwritten."""


def find_call(
    machine: str, registers: Mapping[str, int], read: Callable[[int, int], bytes]
) -> RawCall | None:
    """Return the call that a thread was in, or about to make; None if in none, or if that is not known."""
    if machine == "x86_64":
        return _find_on_x86_64(registers, read)
    if machine == "aarch64":
        return _find_on_aarch64(registers, read)
    return None


def _find_on_x86_64(registers: Mapping[str, int], read: Callable[[int, int], bytes]) -> RawCall | None:
    position = registers["rip"]
    arguments = tuple(registers[name] for name in _X86_ARGUMENTS)
    if read(position, 2) == _SYSCALL:
        return RawCall(registers["rax"], arguments)
    if registers["rax"] != _EINTR or read(position - 2, 2) != _SYSCALL:
        return None
    number = number_set_before(_read_backwards(read, position - 2))
    return None if number is None else RawCall(number, arguments)


def _find_on_aarch64(registers: Mapping[str, int], read: Callable[[int, int], bytes]) -> RawCall | None:
    position = registers["pc"]
    arguments = tuple(registers[f"x{number}"] for number in range(6))
    if read(position, 4) == _SVC:
        return RawCall(registers["x8"], arguments)
    if registers["x0"] == _EINTR and read(position - 4, 4) == _SVC:
        return RawCall(registers["x8"], (None, *arguments[1:]))  # x0 has the result
    return None


def _read_backwards(read: Callable[[int, int], bytes], end: int) -> bytes:
    code = read(end - _WINDOW, _WINDOW)
    if len(code) < _WINDOW:  # the mapping begins in between
        start = -(-(end - _WINDOW) // 4096) * 4096
        code = read(start, end - start)
    return code
