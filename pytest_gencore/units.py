"""Sizes and durations as people write and read them: one grammar, one format."""

from __future__ import annotations

import math
import re
from typing import Final

_NUMBER: Final = r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_SIZE = rf"{_NUMBER} *([A-Za-z]*)"
_SIZE_UNITS: Final = {
    "": 1,
    "b": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", 1)},
    **{f"{letter}{end}": 1024**power for power, letter in enumerate("kmgt", 1) for end in ("", "i", "ib")},
}
_SHOWN_SIZES: Final = ("KiB", "MiB", "GiB", "TiB")
_DECIMAL_SIZES: Final = ("kB", "MB", "GB", "TB")
_DURATION = rf"{_NUMBER} *([A-Za-z]*) *"
_DURATION_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SECONDS_SHOWN: Final = 120
"""Longer durations are shown in minutes, hours or days."""


def parse_size(text: str) -> int:
    """Return the bytes of ``4GiB``, ``500MB``, ``1.5g``, ``1000000``; raises ValueError.

    kB, MB, GB, TB are powers of 1000; KiB, MiB, GiB, TiB, Ki, Mi, Gi, Ti, K, M, G, T are powers of 1024, as
    Kubernetes and Docker have them. Case does not matter.
    """
    match = re.fullmatch(_SIZE, text.strip())
    factor = _SIZE_UNITS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError("expected a size such as 4GiB, 500MB or 1000000")
    return int(float(match[1]) * factor)


def parse_duration(text: str) -> float:
    """Return the seconds of ``90``, ``90s``, ``5m``, ``1.5h``, ``1h30m``, ``2w``; raises ValueError."""
    text = text.strip()
    parts = re.findall(_DURATION, text)
    is_plain = len(parts) == 1 and not parts[0][1]
    if not parts or re.sub(_DURATION, "", text) or not (is_plain or all(_is_unit(unit) for _, unit in parts)):
        raise ValueError("expected a time such as 90, 90s, 5m or 1.5h")
    seconds = sum(float(number) * _DURATION_UNITS[unit.lower() or "s"] for number, unit in parts)
    if math.isinf(seconds):
        raise ValueError("expected a time such as 90, 90s, 5m or 1.5h")
    return seconds


def _is_unit(text: str) -> bool:
    return text.lower() in _DURATION_UNITS


def format_size(size: float) -> str:
    """Return a number of bytes as people read it: ``512 B``, ``34.7 MiB``."""
    if size < 1024:
        return f"{size:.0f} B"
    for power, unit in enumerate(_SHOWN_SIZES, 1):
        text = f"{size / 1024**power:.1f}"
        if float(text) < 1024:
            return f"{text} {unit}"
    return f"{size / 1024**4:.1f} TiB"


def format_limit(size: int) -> str:
    """Return a size that somebody has chosen, in the unit in which it is short and exact: ``100.0 MB``."""
    texts = [
        f"{size / factor**power:.1f} {unit}"
        for factor, units in ((1024, _SHOWN_SIZES), (1000, _DECIMAL_SIZES))
        for power, unit in enumerate(units, 1)
        if size >= factor**power and size * 10 % factor**power == 0
    ]
    return min(texts, key=len, default=format_size(size))


def format_duration(seconds: float) -> str:
    """Return a duration as people read it: ``0.35 s``, ``90 s``, ``5 min``, ``1 h 30 min``, ``7 d``."""
    if seconds < _SECONDS_SHOWN:
        return f"{seconds:.3g} s"
    left = round(seconds)
    parts = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
