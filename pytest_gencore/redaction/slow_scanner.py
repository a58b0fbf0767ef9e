"""What ``_scanner`` does, in Python, where it is not built: for texts, which are small."""

from __future__ import annotations

Table = tuple[bytes, ...]


def make_table(patterns: tuple[bytes, ...]) -> Table:
    """Return what finds these byte strings."""
    return patterns


def find(table: Table, data: bytearray, size: int) -> list[tuple[int, int]]:
    """Return (offset, number of the pattern) of all that occur in the first bytes, unsorted."""
    found = []
    for number, pattern in enumerate(table):
        at = data.find(pattern, 0, size)
        while at >= 0:
            found.append((at, number))
            at = data.find(pattern, at + 1, size)
    return found
