"""The identity of a process: its id and when it began."""

from __future__ import annotations

from pathlib import Path


def start_ticks(pid: int) -> int:
    """Return when a process began, in clock ticks since boot: field 22 of proc(5)'s ``stat``.

    With the id it names one process, whatever becomes of the wall clock. Raises OSError if there is no such
    process, or if ``/proc`` does not show it.
    """
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
