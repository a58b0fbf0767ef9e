"""A crash is called a stack overflow only if address, stack pointer and mappings say so."""

from __future__ import annotations

import pytest

from pytest_gencore.collector.source.procfs import parse_mappings
from pytest_gencore.collector.source.stack_overflow import is_in_guard

MAPPINGS = parse_mappings(
    b"""\
400000-500000 r-xp 00000000 08:01 77 /bin/python
7f0000000000-7f0000001000 ---p 00000000 00:00 0
7f0000001000-7f0000801000 rw-p 00000000 00:00 0
7f0010000000-7f0010100000 r--p 00000000 08:01 78 /lib/libc.so.6
7ffe00000000-7ffe00800000 rw-p 00000000 00:00 0 [stack]
"""
)
END, THREAD_END = 0x7FFE00000000, 0x7F0000001000


@pytest.mark.parametrize(
    ("address", "pointer", "expected"),
    [
        (END - 8, END - 8, True),
        (END - 0x1000, END + 0x100, True),
        (END - 0x80000, END - 0x80100, True),
        (THREAD_END - 8, THREAD_END - 8, True),
        (8, END + 0x1000, False),
        (END - 8, END + 0x700000, False),  # a wild pointer, with most of the stack free
        (END - 0x200000, END - 0x200000, False),  # further below than the guard reaches
        (END + 8, END + 8, False),  # of the stack itself: not what is reported as a fault
        (0x7F000FFFFFF8, 0x7F000FFFFFF8, False),  # below a library
        (0x7FFE00900000, 0x7FFE00900000, False),  # above all
    ],
)
def test_guard(address: int, pointer: int, expected: bool) -> None:
    assert is_in_guard(address, pointer, MAPPINGS) is expected
