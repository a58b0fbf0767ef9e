"""Limits of a program: this file, run as a script, sets them and becomes the program.

Memory is bounded by ``RLIMIT_DATA`` and not ``RLIMIT_AS``: elfutils maps a core as a whole, with its holes of
perhaps terabytes.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCRIPT: Final = os.path.abspath(__file__)  # noqa: PTH100 - imports less
_NOT_STARTED: Final = 127


@dataclass(frozen=True)
class Limits:
    """What a program may use; None is no limit of ours. Those that are lower already stay."""

    memory: int | None = None
    """Bytes of memory of its own."""
    cpu_seconds: int | None = None
    file_size: int | None = None
    """Bytes of each file that it writes."""


def half_of_memory() -> int:
    """Return half of the bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def limited(command: Sequence[str], limits: Limits) -> list[str]:
    """Return the command that runs a command under limits, and without a core of its own."""
    numbers = (getattr(limits, field.name) for field in fields(limits))
    values = ("-" if number is None else str(number) for number in numbers)
    return [sys.executable, "-I", "-S", _SCRIPT, *values, *command]


def _main(memory: str, cpu_seconds: str, file_size: str, *command: str) -> None:
    import resource  # Windows has none

    for name, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CORE, "0"),
    ):
        if value != "-":
            _, hard = resource.getrlimit(name)
            number = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
            resource.setrlimit(name, (number, number))
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot be started: {getattr(error, 'strerror', error)}\n")
        sys.exit(_NOT_STARTED)


if __name__ == "__main__":
    _main(*sys.argv[1:])
