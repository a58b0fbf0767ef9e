"""Read the values of options: each function raises ``ValueError`` saying what would have been right."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pytest_gencore.capture.request import Threads

THREADS = ("all", "calling")
HIGHEST_CORE_FILTER = 0x1FF
"""All bits that core(5) knows."""

SIZE_PATTERN = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)")
SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    **dict.fromkeys(("k", "kib"), 1024),
    **dict.fromkeys(("m", "mib"), 1024**2),
    **dict.fromkeys(("g", "gib"), 1024**3),
    **dict.fromkeys(("t", "tib"), 1024**4),
}


def parse_threads(text: object) -> Threads:
    """Return which threads a capture holds."""
    if text not in THREADS:
        raise ValueError("expected all or calling")
    return cast("Threads", text)


def parse_core_filter(text: str) -> int:
    """Return bits of ``coredump_filter``, written in any base that Python knows."""
    message = f"expected bits of coredump_filter, see core(5): 0 to {HIGHEST_CORE_FILTER:#x}"
    try:
        bits = int(text, 0)
    except ValueError:
        raise ValueError(message) from None
    if not 0 <= bits <= HIGHEST_CORE_FILTER:
        raise ValueError(message)
    return bits


def parse_timeout(text: str) -> float:
    """Return a number of seconds."""
    try:
        return check_timeout(float(text))
    except ValueError:
        raise ValueError("expected a number of seconds above 0") from None


def check_timeout(seconds: object) -> float:
    """Return seconds that came as a number."""
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0 < cast("float", seconds) < math.inf:
        raise ValueError("expected a number of seconds above 0")
    return float(cast("float", seconds))


def parse_count(text: str) -> int:
    """Return a number of things."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("expected a whole number, 0 or more")
    return int(text)


def parse_size(text: str) -> int:
    """Return bytes; kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB and single letters of 1024."""
    match = SIZE_PATTERN.fullmatch(text.strip())
    factor = SIZE_UNITS.get(match["unit"].lower()) if match else None
    if match is None or factor is None:
        raise ValueError("expected a size such as 4GiB, 500MB or 1000000")
    size_bytes = int(float(match["number"]) * factor)
    if size_bytes < 1:
        raise ValueError("expected a size above 0")
    return size_bytes


def parse_path(text: str) -> str:
    """Return a path that is not empty."""
    if not text.strip():
        raise ValueError("expected the path of a directory")
    return text


def format_size(size_bytes: int) -> str:
    """Return a size for people: ``12.3 MiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
