"""Why glibc aborted: the message that it wrote before, such as ``free(): invalid pointer`` or an assertion.

glibc keeps it for debuggers in a page to which its private variable ``__abort_msg`` points: a ``struct
abort_msg_s``, size and text. It stays there when a program comes back from an abort; then an abort that
the program itself calls has no message.
"""

from __future__ import annotations

import contextlib
import re
import struct
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.source.mapped_memory import MappedMemory
from pytest_gencore.collector.source.procfs import find_mapping, read_mappings
from pytest_gencore.collector.source.symbols import find_symbol
from pytest_gencore.corefile.machines import machine_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot
    from pytest_gencore.corefile.machines import Machine

SIGABRT: Final = 6
_LIBC = re.compile(rb"/libc(?:\.so\.6|-2\.\d+\.so)$")
_POINTER = struct.Struct("<Q")
_SIZE = struct.Struct("<I")
_MESSAGE_LIMIT: Final = 4096
_STACK_SIZE: Final = 4096
"""Bytes of stack that surely hold the frames of ``abort`` and of what it calls."""
_USER_BITS: Final = (1 << 48) - 1
"""A return address may be signed in the bits above: pointer authentication of aarch64."""
_CALL_SIZE: Final = 5
"""Bytes of the longest direct call."""


def read_abort_message(handover: Handover, snapshot: Snapshot) -> str | None:
    """Return glibc's message of the abort that was captured; None if it is another crash, or has none."""
    signal, machine = handover.signal, machine_for(handover.context.run.machine)
    if signal is None or machine is None or signal.number != SIGABRT:
        return None
    calling = handover.threads[0]
    stack = calling.registers[machine.registers.index(machine.stack_pointer)]
    with contextlib.suppress(OSError):
        mappings = read_mappings(snapshot.pid, with_sizes=False)
        return find_message(MappedMemory(snapshot, mappings), mappings, machine, stack)
    return None


def find_message(
    memory: MappedMemory, mappings: Sequence[Mapping], machine: Machine, stack: int
) -> str | None:
    """Return the message if glibc itself called ``abort``, as the stack above the pointer ``stack`` shows."""
    for base in mappings:
        if base.offset or not _LIBC.search(base.path):
            continue
        variable = find_symbol(memory, base.start, b"__abort_msg")
        abort = find_symbol(memory, base.start, b"abort")
        if variable is None or abort is None:
            continue
        code = [mapping for mapping in mappings if mapping.executable and mapping.path == base.path]
        if _is_called_by(code, abort, memory, machine, stack):
            (address,) = memory.unpack(_POINTER, variable) or (0,)
            return _read_message(memory, mappings, address)
    return None


def _is_called_by(
    code: Sequence[Mapping], function: int, memory: MappedMemory, machine: Machine, stack: int
) -> bool:
    """Tell whether the stack has a return address behind a call of a function in this code."""
    data = memory.read(stack, _STACK_SIZE)
    for (word,) in _POINTER.iter_unpack(data[: len(data) // _POINTER.size * _POINTER.size]):
        address = word & _USER_BITS
        if address == function:
            continue  # a pointer to it; the code before may end with a call of it
        if any(mapping.start + _CALL_SIZE <= address <= mapping.end for mapping in code):
            call = memory.read(address - _CALL_SIZE, _CALL_SIZE)
            if machine.call_target(call, address) == function:
                return True
    return False


def _read_message(memory: MappedMemory, mappings: Sequence[Mapping], address: int) -> str | None:
    """Return the text of a ``struct abort_msg_s``; None if that is none: whole pages of private memory."""
    mapping = find_mapping(mappings, address)
    if mapping is None or not mapping.writable or mapping.shared or mapping.is_file:
        return None
    (size,) = memory.unpack(_SIZE, address) or (0,)
    page_size = memory.page_size
    if address % page_size or not size or size % page_size or size > mapping.end - address:
        return None
    text, zero, _ = memory.read(address + _SIZE.size, min(size - _SIZE.size, _MESSAGE_LIMIT)).partition(b"\0")
    if not zero and size - _SIZE.size <= _MESSAGE_LIMIT:
        return None  # not ended: it is none
    return text.decode(errors="backslashreplace").strip() or None
