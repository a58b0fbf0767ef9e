"""ELF files that every process has."""

from __future__ import annotations

from pathlib import Path


def find_libc() -> Path:
    """Return the C library of this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(Path(line.split()[-1]) for line in lines if "/libc.so" in line or "/libc-" in line)
