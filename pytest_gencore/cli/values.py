"""Values of options: sizes and times with units."""

from __future__ import annotations

import re
from typing import Final

import click

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|[kKMGT]i?B?)?")
_SIZE_UNITS: Final = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([smhdw]?)")
_TIME_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_size(text: str) -> int:
    """Return bytes of ``4GiB``, ``500MB``, ``1000000``; raises click.BadParameter.

    kB, MB, ... are decimal; KiB, MiB, ... and plain K, M, ... are binary.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        message = f"{text!r} is no size such as 4GiB, 500MB or 1000000"
        raise click.BadParameter(message)
    number, unit = match.group(1), match.group(2) or "B"
    base = 1000 if len(unit) == 2 else 1024
    return int(float(number) * base ** _SIZE_UNITS[unit[0].lower()])


def parse_duration(text: str) -> float:
    """Return seconds of ``90``, ``90s``, ``30m``, ``12h``, ``7d``, ``2w``; raises click.BadParameter."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        message = f"{text!r} is no time such as 90s, 30m, 12h, 7d or 2w"
        raise click.BadParameter(message)
    return float(match.group(1)) * _TIME_UNITS[match.group(2)]
