"""Whether the kernel has killed a process for want of memory: what it counts, and what its log says."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_gencore.machine.memory import memory_cgroups, read_children_rss, read_rss
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MACHINE: Final = "/proc/vmstat"
_OF_V1, _OF_V2 = "memory.oom_control", "memory.events"
_LOG: Final = "/dev/kmsg"
_LOG_LINES: Final = 20_000
_RECORD_BYTES: Final = 8192


@dataclass(frozen=True, slots=True)
class Sample:
    """What was known of a process at one moment."""

    kills: Mapping[str, int] = field(default_factory=dict)
    """Processes that were killed for want of memory so far, by the file that counts them."""
    used_bytes: int = 0
    """Resident memory of the process and its descendants; 0: not known."""
    own: str = ""
    """The file that counts those of the process's own cgroup: a kill of it is counted there, see
    memcg_memory_event_mm() in mm/oom_kill.c."""


def take_sample(pid: int) -> Sample:
    """Look at a process, and at the counters of the cgroups that it and we are in."""
    own, ours = list(_list_counters(pid)), list(_list_counters("self"))
    counts = {path: read_count(path) for path in dict.fromkeys([_MACHINE, *own, *ours])}
    used = read_rss(process=pid) + read_children_rss(pid)
    kills = {path: count for path, count in counts.items() if count is not None}
    # Version 1 counts in no cgroup above.
    nearest = own[:1] if own and own[0].endswith(_OF_V1) else own
    return Sample(kills, used, next((path for path in nearest if path in kills), ""))


def _list_counters(process: int | str) -> Iterator[str]:
    """Yield the files that count kills in the cgroups of a process, its own first."""
    for folder, is_v1 in memory_cgroups(process=process):
        yield f"{folder}/{_OF_V1 if is_v1 else _OF_V2}"


def read_count(path: str) -> int | None:
    """Return the number behind ``oom_kill`` in a file, None if there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = re.search(r"^oom_kill (\d+)$", Path(path).read_text(errors="replace"), re.MULTILINE)
        return int(found[1]) if found else None
    return None


def describe_kill(pid: int, before: Sample) -> str:
    """Say why a process died of SIGKILL, and what speaks for it; ``before`` is from shortly before."""
    after = {path: count for path in before.kills if (count := read_count(path)) is not None}
    grown = {path: count - before.kills[path] for path, count in after.items() if count > before.kills[path]}
    used = (
        f"it and its children had {format_size(before.used_bytes)} shortly before"
        if before.used_bytes
        else ""
    )
    line = find_in_log(pid) if grown else ""
    is_other = before.own in after and before.own not in grown
    groups = [] if is_other else [path for path in grown if path != _MACHINE]
    if line:
        return f"out of memory (evidence: {_join(f'the kernel log: {line}', used)})"
    if groups:
        count = grown[groups[0]]
        told = (
            f"the kernel has just killed {count} process{'es' * (count > 1)} for want of memory: {groups[0]}"
        )
        return f"out of memory (evidence: {_join(told, used)})"
    if grown and not is_other:
        return (
            "killed by SIGKILL; the kernel has just killed a process of this machine for want of memory, and "
            "whether it was this one is not known"
        )
    if is_other or len(after) > 1 or (after and not list(memory_cgroups())):
        whose = " of its cgroup" if grown else ""
        told = f"the kernel has killed no process{whose} for want of memory"
        return f"killed from outside or by itself, not for want of memory (evidence: {_join(told, used)})"
    return "killed by SIGKILL, which no handler sees; whether memory was short is not known"


def find_in_log(pid: int) -> str:
    """Return the line of the kernel's log about the end of a process, empty if there is none to be read.

    Numbers are those of the first PID namespace, see kernel/mm/oom_kill.c: in another one none is believed.
    """
    with contextlib.suppress(OSError):
        if "pid:[4026531836]" not in str(Path("/proc/self/ns/pid").readlink()):
            return ""
        descriptor = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        found = ""
        try:
            for _ in range(_LOG_LINES):
                record = os.read(descriptor, _RECORD_BYTES).decode(errors="replace")
                text = record.partition(";")[2].partition("\n")[0]
                if re.search(rf"Killed process {pid}\b", text):
                    found = text
        except BlockingIOError:  # that was the last one
            pass
        finally:
            os.close(descriptor)
        return found
    return ""


def _join(*parts: str) -> str:
    return "; ".join(filter(None, parts))
