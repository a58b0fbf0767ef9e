"""Processes as ``/proc`` has them now: what could not be read before the snapshot was taken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_gencore.machine.process import split_stat

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_SIZE: Final = 4096
_LINKS: Final = (0, 1, 2)


def descendants_of(captured: int, direct: set[int], *, include_direct: bool) -> Iterator[tuple[int, int]]:
    """Yield process and start, in ticks, of all whose parent is known, and then of theirs."""
    parents: dict[int, tuple[int, int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - hot: thousands of processes
        if name.isdecimal():
            fields = fields_of_stat(name)
            if len(fields) > 19:
                parents[int(name)] = (int(fields[1]), int(fields[19]))
    known = {*direct, *([captured] if include_direct else [])}
    while more := {pid for pid, (parent, _) in parents.items() if parent in known and pid not in known}:
        for pid in sorted(more):
            yield pid, parents[pid][1]
        known |= more


def parent_in(stat: bytes) -> int:
    """Return the parent in a text of ``/proc/PID/stat``, 0 if there is none."""
    fields = split_stat(stat)
    return int(fields[1]) if len(fields) > 1 else 0


def fields_of_stat(pid: int | str) -> list[bytes]:
    """Return the fields of ``/proc/PID/stat`` from the state on; empty if it has ended."""
    return split_stat(read_start(f"/proc/{pid}/stat"))


def some_links_of(pid: int, more: int | None) -> list[tuple[int, str]]:
    """Return number and link of the first three descriptors of a process, and of one more."""
    numbers = {*_LINKS, *([more] if more is not None else [])}
    found = [(number, _link(f"/proc/{pid}/fd/{number}")) for number in sorted(numbers)]
    return [(number, link) for number, link in found if link]


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - a text such as pipe:[1]
    except OSError:
        return ""


def read_start(path: str) -> bytes:
    """Return the beginning of a file of ``/proc``, empty if it cannot be read."""
    try:
        with Path(path).open("rb", buffering=0) as file:
            return file.read(_START_SIZE) or b""
    except OSError:
        return b""
