"""A test that reads memory that is not there: the process dies of SIGSEGV."""

from __future__ import annotations

import ctypes


def read_name(address: int) -> bytes:
    """Trust an address."""
    return ctypes.string_at(address)


def test_name() -> None:
    """Crash."""
    assert read_name(8) == b"orders"
