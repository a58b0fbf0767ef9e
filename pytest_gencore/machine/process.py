"""The identity of a process: its id and when it began."""

from __future__ import annotations

import os
import select
from pathlib import Path


def start_ticks(pid: int) -> int:
    """Return when a process began, in clock ticks since boot: field 22 of proc(5)'s ``stat``.

    With the id it names one process, whatever becomes of the wall clock. Raises OSError if there is no such
    process, or if ``/proc`` does not show it.
    """
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def is_alive(pid: int, birth: int) -> bool:
    """Tell whether the process with this id that began at ``birth``, in ticks, still runs a thread.

    One that has ended keeps its entry in ``/proc`` until its parent has waited for it: the descriptor of
    pidfd_open(2) tells. Raises OSError if there is no such process.
    """
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return start_ticks(pid) == birth and not poll.poll(0)
    finally:
        os.close(descriptor)
