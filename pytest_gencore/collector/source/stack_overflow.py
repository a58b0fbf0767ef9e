"""Whether a crash is the overflow of a thread's stack: its address is in the guard below the stack in use."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.source.procfs import read_mappings
from pytest_gencore.corefile.machines import machine_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.procfs import Mapping

_SIGSEGV: Final = 11
_FAULTS: Final = (1, 2)
"""SEGV_MAPERR and SEGV_ACCERR of sigaction(2)."""
_GUARD: Final = 1 << 20
"""Bytes below a growing stack in which the kernel maps nothing: ``stack_guard_gap``, 256 pages by default."""
_FRAME: Final = 1 << 20
"""Bytes that the pointer may be away from the address: one frame may be large."""


def is_stack_overflow(handover: Handover) -> bool:
    """Tell it from signal, registers and mappings of the crashed thread; False if they do not say so."""
    signal, machine = handover.signal, machine_for(handover.context.run.machine)
    if signal is None or machine is None or signal.number != _SIGSEGV or signal.code not in _FAULTS:
        return False
    calling = next((thread for thread in handover.threads if thread.tid == handover.tid), None)
    if calling is None or not calling.reached:
        return False
    pointer = calling.registers[machine.registers.index(machine.stack_pointer)]
    with contextlib.suppress(OSError):
        return is_in_guard(signal.address, pointer, read_mappings(handover.snapshot_pid, with_sizes=False))
    return False


def is_in_guard(address: int, pointer: int, mappings: Sequence[Mapping]) -> bool:
    """Tell whether an address is in the guard below a stack, and the stack pointer at the end of that."""
    if any(mapping.start <= address < mapping.end and mapping.readable for mapping in mappings):
        return False
    stack = next((mapping for mapping in mappings if mapping.start > address and mapping.readable), None)
    if stack is None or not stack.writable or stack.is_file or stack.start - address > _GUARD:
        return False
    return abs(pointer - address) <= _FRAME and pointer < stack.start + _FRAME
