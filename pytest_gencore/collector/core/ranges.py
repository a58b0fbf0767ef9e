"""Ranges of addresses: starts and ends, the end excluded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def merge(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Sort these starts and ends, and join those that touch or overlap."""
    first = last = 0
    for start, end in sorted(ranges):
        if start > last:
            if first < last:
                yield first, last
            first = start
        last = max(last, end)
    if first < last:
        yield first, last


def subtract(
    ranges: Iterable[tuple[int, int]], others: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield starts and ends of what is in ``ranges`` and not in ``others``, both sorted."""
    index = 0
    for start, end in ranges:
        while index < len(others) and others[index][1] <= start:
            index += 1
        at, number = start, index
        while number < len(others) and others[number][0] < end:
            if at < others[number][0]:
                yield at, others[number][0]
            at = others[number][1]
            number += 1
        if at < end:
            yield at, end
