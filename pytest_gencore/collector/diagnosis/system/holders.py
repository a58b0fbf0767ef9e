"""Which processes have a pipe or a socket open: a bounded look at ``/proc/PID/fd``."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_gencore.collector.diagnosis.system.living import fields_of_stat, read_start
from pytest_gencore.request.context import COLLECTOR_MODULE
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SCAN_SECONDS: Final = 0.2
_LINK_LIMIT: Final = 4096
"""Descriptors of one process that are looked at."""
_SHOWN: Final = 3


class Holder(NamedTuple):
    """A process that has something open."""

    pid: int
    name: str
    """As ``/proc/PID/comm`` has it; empty if that cannot be read."""
    descriptor: int
    is_captured: bool = False
    is_child: bool = False
    """Whether it was a child of the captured process."""

    def describe(self) -> str:
        """Return a phrase such as ``child 4711 (fd 1)``."""
        if self.is_captured:
            return f"this process (fd {self.descriptor})"
        kind = "child" if self.is_child else "process"
        name = f"{escape_unprintable(self.name)}, " if self.name else ""
        return f"{kind} {self.pid} ({name}fd {self.descriptor})"

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "pid": self.pid,
            "name": escape_unprintable(self.name),
            "fd": self.descriptor,
            "is_captured": self.is_captured,
            "is_child": self.is_child,
        }


class OtherEnd(NamedTuple):
    """Who has the other end of a pipe or a socket."""

    holders: tuple[Holder, ...]
    is_complete: bool
    """Whether all processes that could have it were looked at: else there may be more."""

    @property
    def only_captured(self) -> bool:
        """Whether the captured process has it, and nobody else."""
        return self.is_complete and bool(self.holders) and all(holder.is_captured for holder in self.holders)

    def describe(self, itself: int | None = None) -> str:
        """Return who, as in a sentence, empty if nobody was found; ``itself``: the process it is about."""
        names = [
            f"itself (fd {holder.descriptor})" if holder.pid == itself else holder.describe()
            for holder in self.holders[:_SHOWN]
        ]
        if len(self.holders) > _SHOWN:
            names.append(f"{len(self.holders) - _SHOWN} more")
        return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "holders": [holder.to_json() for holder in self.holders],
            "is_complete": self.is_complete,
        }


@dataclass(slots=True)
class Scan:
    """What was found."""

    by_link: dict[str, list[tuple[Holder, bool, bool]]] = field(default_factory=dict)
    """By the text of the link: holder, whether it can read, whether it can write."""
    is_complete: bool = True

    def other_end(self, link: str, *, reads: bool, own: Iterable[Holder]) -> OtherEnd:
        """Return who has the end that reads, or the one that writes; ``own``: of the captured process."""
        found = [
            holder
            for holder, can_read, can_write in self.by_link.get(link, ())
            if (can_read if reads else can_write)
        ]
        return OtherEnd((*own, *found), self.is_complete)


class Family(NamedTuple):
    """Processes that matter for who could have what."""

    captured: int
    children: frozenset[int]
    skipped: frozenset[int]
    """Our own, which have nothing of it."""
    birth: int
    """When the run began, in clock ticks since boot."""
    newest: int | None
    """When the snapshot was taken, in the same ticks; None if that is not known."""

    def counts(self, fields: list[bytes]) -> bool:
        """Tell whether a process counts, by its ``stat``: one as old as the snapshot that has not ended.

        The copy of another capture does not.
        """
        if _has_ended(fields) or (self.newest is not None and int(fields[19]) > self.newest):
            return False
        return COLLECTOR_MODULE.encode() not in read_start(f"/proc/{int(fields[1])}/cmdline")


def scan(wanted: Mapping[str, int], family: Family) -> Scan:
    """Look who has the links open: children first, then processes as old as the captured one.

    ``wanted`` has the inodes: a path may be another file where other file systems are mounted.
    """
    result = Scan()
    if not wanted:
        return result
    deadline = time.monotonic() + SCAN_SECONDS
    for pid in _pids_nearest(family):
        if pid in family.skipped or pid == family.captured:
            continue
        if time.monotonic() > deadline:
            result.is_complete = False
            break
        try:
            for count, (number, link) in enumerate(links_of(pid), 1):
                result.is_complete &= count < _LINK_LIMIT
                if (
                    link in wanted
                    and os.stat(f"/proc/{pid}/fd/{number}").st_ino == wanted[link]  # noqa: PTH116
                    and family.counts(fields_of_stat(pid))
                ):
                    _add(result, link, pid, number, is_child=pid in family.children)
        except PermissionError:
            result.is_complete &= not _could_have_inherited(pid, family)
        except OSError:
            continue  # it has ended
    if _has_ended(fields_of_stat(family.captured)):
        result.is_complete = False  # who saw its end may have closed the other one meanwhile
    return result


def _has_ended(fields: list[bytes]) -> bool:
    return len(fields) < 20 or fields[0] in (b"Z", b"X")


def _could_have_inherited(pid: int, family: Family) -> bool:
    """Tell whether a process that may not be looked at may have got a descriptor by being a child of ours.

    One that is older than the run has not, and one of another user hardly, if ours is not its parent. What
    was handed over through a socket is not seen.
    """
    fields = fields_of_stat(pid)
    if not family.counts(fields) or int(fields[19]) < family.birth:
        return False
    return int(fields[1]) in {family.captured, *family.children} or _owner_of(pid) == os.getuid()


def links_of(pid: int) -> Iterator[tuple[int, str]]:
    """Yield number and link of each descriptor of a process; raises OSError."""
    folder = f"/proc/{pid}/fd"
    for number in islice(os.listdir(folder), _LINK_LIMIT):  # noqa: PTH208 - hot, as below
        with contextlib.suppress(FileNotFoundError):
            yield int(number), os.readlink(f"{folder}/{number}")  # noqa: PTH115


def name_of(pid: int) -> str:
    """Return the name of a process, empty if it cannot be read."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes()).removesuffix("\n")
    except OSError:
        return ""


def _add(result: Scan, link: str, pid: int, number: int, *, is_child: bool) -> None:
    # The permission bits of the link tell what the descriptor was opened for.
    mode = os.lstat(f"/proc/{pid}/fd/{number}").st_mode
    holder = Holder(pid, name_of(pid), number, is_child=is_child)
    found = result.by_link.setdefault(link, [])
    found.append((holder, bool(mode & stat.S_IRUSR), bool(mode & stat.S_IWUSR)))


def _pids_nearest(family: Family) -> list[int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - as above
    return sorted(pids, key=lambda pid: (pid not in family.children, abs(pid - family.captured)))


def _owner_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return -1  # it has ended
