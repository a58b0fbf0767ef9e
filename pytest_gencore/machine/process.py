"""What identifies a process, its id and when it began; and whether it lives."""

from __future__ import annotations

import contextlib
import errno
import os
import select
from pathlib import Path
from typing import Final

_START: Final = 19
"""Of the fields behind the name."""


def start_ticks(pid: int) -> int:
    """Return when a process began, in clock ticks since boot: field 22 of proc(5)'s ``stat``.

    With the id it names one process, whatever becomes of the wall clock. Raises OSError if there is no such
    process, or if ``/proc`` does not show it.
    """
    return int(_read_stat(pid)[_START])


def parse_start_ticks(stat: bytes) -> int:
    """Return the same from what a process of another system has there."""
    return int(split_stat(stat)[_START])


def is_alive(pid: int, birth: int) -> bool:
    """Tell whether the process with this id that began at ``birth``, in ticks, still runs a thread.

    One that has ended keeps its entry in ``/proc`` until its parent has waited for it: the descriptor of
    pidfd_open(2) tells. Raises OSError if there is no such process.
    """
    descriptor = os.pidfd_open(pid)
    try:
        return start_ticks(pid) == birth and not has_ended(descriptor)
    finally:
        os.close(descriptor)


def why_no_descriptors() -> str:
    """Return why processes have no descriptors here, which all that waits for one needs; empty if they have.

    pidfd_open(2) came with Linux 5.3. Old seccomp profiles refuse it, gVisor had none in July 2024, and a
    Python may have been built without it.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except AttributeError:
        return "this Python was built without os.pidfd_open"
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return f"the kernel or a seccomp filter has no pidfd_open: {error.strerror}"
    return ""


def has_ended(descriptor: int, timeout: float = 0) -> bool:
    """Wait at most so many seconds for the end of the process of a pidfd; tell whether it has ended."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def state_of(pid: int) -> str:
    """Return the letter of a process's state: field 3 of ``stat``, empty if that cannot be read."""
    with contextlib.suppress(OSError):
        return _read_stat(pid)[0].decode()
    return ""


def split_stat(stat: bytes) -> list[bytes]:
    """Return the fields of proc(5)'s ``stat`` behind the name, which may have blanks and brackets."""
    return stat.rpartition(b")")[2].split()


def _read_stat(pid: int) -> list[bytes]:
    return split_stat(Path(f"/proc/{pid}/stat").read_bytes())
