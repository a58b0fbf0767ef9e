"""Read the values of options: each function raises ``ValueError`` saying what would have been right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pytest_gencore import units

if TYPE_CHECKING:
    from pytest_gencore.request.model import Children, Moment, SlowNotice, Threads

THREADS = ("all", "calling")
MOMENTS = ("report", "raise")
CHILDREN = ("watch", "none", "dump")
SLOW_NOTICES = ("auto", "on", "off")
HIGHEST_CORE_FILTER = 0x1FF
"""All bits that core(5) knows."""


def parse_threads(text: object) -> Threads:
    """Return which threads a capture holds."""
    if text not in THREADS:
        raise ValueError("expected all or calling")
    return cast("Threads", text)


def parse_moment(text: object) -> Moment:
    """Return when a failure is captured."""
    if text not in MOMENTS:
        raise ValueError("expected report or raise")
    return cast("Moment", text)


def parse_children(text: object) -> Children:
    """Return what is done about child processes."""
    if text not in CHILDREN:
        raise ValueError("expected watch, none or dump")
    return cast("Children", text)


def parse_slow_notice(text: object) -> SlowNotice:
    """Return when slow tests are told of."""
    if text not in SLOW_NOTICES:
        raise ValueError("expected auto, on or off")
    return cast("SlowNotice", text)


def parse_ci(text: str) -> str:
    """Return which CI system is told of captures."""
    from pytest_gencore.ci import systems  # few runs need it

    return systems.parse_ci(text)


def parse_store(text: str) -> str:
    """Return the URL of a store."""
    from pytest_gencore.store.url import parse_url  # few runs need it

    return parse_url(text)


def parse_switch(text: str) -> bool:
    """Return whether something is on; ini files of pytest say true and false."""
    words = {
        "on": True,
        "true": True,
        "yes": True,
        "1": True,
        "off": False,
        "false": False,
        "no": False,
        "0": False,
    }
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError("expected on or off") from None


def parse_globs(text: str) -> tuple[str, ...]:
    """Return the globs of a list with commas, spaces or lines."""
    return tuple(text.replace(",", " ").split())


def parse_lines(text: str) -> tuple[str, ...]:
    """Return the lines of a text, without spaces around them; none may be empty, as of an unset variable."""
    lines = tuple(line.strip() for line in text.split("\n"))
    if "" in lines:
        raise ValueError("it is empty")
    return lines


def check_raises(value: object) -> tuple[type[BaseException], ...]:
    """Return the exception types of a type, or of a tuple of them."""
    kinds = value if isinstance(value, tuple) else (value,)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise ValueError("expected an exception type or a tuple of them")
    return kinds


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
    """Return the seconds of a time such as ``90``, ``90s``, ``5m`` or ``1.5h``."""
    return _check_seconds(units.parse_duration(text))


def check_timeout(value: object) -> float:
    """Return the seconds of a number, or of a text as ``parse_timeout`` takes it."""
    if isinstance(value, str):
        return parse_timeout(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError("expected seconds, or a time such as '90s' or '5m'")
    return _check_seconds(float(value))


def _check_seconds(seconds: float) -> float:
    if not 0 < seconds < math.inf:
        raise ValueError("expected a time above 0")
    return seconds


def parse_count(text: str) -> int:
    """Return a number of things."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("expected a whole number, 0 or more")
    return int(text)


def parse_percent(text: str) -> float:
    """Return the number of a part such as ``90%`` or ``90``."""
    message = "expected a percentage above 0, up to 100, such as 90%"
    try:
        percent = float(text.strip().removesuffix("%"))
    except ValueError:
        raise ValueError(message) from None
    if not 0 < percent <= 100:
        raise ValueError(message)
    return percent


def parse_size(text: str) -> int:
    """Return the bytes of a size above 0, as ``units.parse_size`` takes it."""
    size = units.parse_size(text)
    if size < 1:
        raise ValueError("expected a size above 0")
    return size


def parse_path(text: str) -> str:
    """Return a path that is not empty, with ``~`` expanded."""
    if not text.strip():
        raise ValueError("expected the path of a directory")
    try:
        return str(Path(text).expanduser())
    except RuntimeError:
        raise ValueError("the home directory that ~ stands for is not known") from None
