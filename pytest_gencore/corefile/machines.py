"""What differs between the machines whose cores we read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.corefile import aarch64, x86_64

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.corefile.notes import Note


class Machine(NamedTuple):
    """One 64-bit little-endian machine as its Linux cores describe it."""

    name: str
    """As ``platform.machine()`` has it."""
    e_machine: int
    registers: tuple[str, ...]
    """The general registers in the order of ``pr_reg``, that is of ``struct user_regs_struct``."""
    program_counter: str
    stack_pointer: str
    thread_notes: Callable[[bytes, int, int], list[Note]]
    """Make the notes of a thread besides NT_PRSTATUS.

    Of the floating point area of its signal frame, empty if there is none, its thread pointer, and the bits
    of an address of code that may be signed. An area that makes no sense gives no notes.
    """
    call_target: Callable[[bytes, int], int | None]
    """Return what the direct call calls that ends the code and returns to the address; None if none does."""

    @property
    def prstatus_size(self) -> int:
        """Size of ``struct elf_prstatus``: 112 bytes, the registers, ``pr_fpvalid`` and padding."""
        return 112 + 8 * len(self.registers) + 8


X86_64 = Machine(
    name="x86_64",
    e_machine=x86_64.EM_X86_64,
    registers=x86_64.REGISTERS,
    program_counter="rip",
    stack_pointer="rsp",
    thread_notes=x86_64.thread_notes,
    call_target=x86_64.call_target,
)
AARCH64 = Machine(
    name="aarch64",
    e_machine=aarch64.EM_AARCH64,
    registers=aarch64.REGISTERS,
    program_counter="pc",
    stack_pointer="sp",
    thread_notes=aarch64.thread_notes,
    call_target=aarch64.call_target,
)
MACHINES = (X86_64, AARCH64)


def machine_for(name: str) -> Machine | None:
    """Return the machine with this ``platform.machine()`` value, None if cores of it are unknown to us."""
    return next((machine for machine in MACHINES if machine.name == name), None)


def machine_by_elf(e_machine: int) -> Machine | None:
    """Return the machine with this ``e_machine``, None if cores of it are unknown to us."""
    return next((machine for machine in MACHINES if machine.e_machine == e_machine), None)
