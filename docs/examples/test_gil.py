"""A call of compiled code that never ends and never releases the GIL: run it with a timeout."""

from __future__ import annotations

import itertools


def count_items() -> int:
    """Count for ever, in C."""
    return sum(itertools.repeat(1))


def test_count() -> None:
    """Hang: no signal handler and no thread of Python runs any more."""
    assert count_items() == 84
