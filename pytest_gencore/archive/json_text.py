"""Decode JSON of an archive that may be anybody's: its size in memory is bounded before it is decoded."""

from __future__ import annotations

import json
import math
import re
from typing import Final, NoReturn

from pytest_gencore.errors import ArchiveError

JSON_LIMIT: Final = 4 << 20
"""Bytes; a manifest of 10,000 threads and 5,000 libraries takes 3 MiB."""
TOKENS_LIMIT: Final = 250_000
"""Commas and opening brackets outside of strings: each can stand for an object of 200 bytes in memory."""
_TOKENS: Final = (b",", b"[", b"{")
_DIGITS_LIMIT: Final = 40
_STRING: Final = re.compile(rb'"[^"]*"')


def decode_json(data: bytes, name: str) -> object:
    """Decode ASCII; ``name`` is what errors call it. Raises ArchiveError."""
    if len(data) > JSON_LIMIT:
        message = f"{name} has {len(data)} bytes; the limit is {JSON_LIMIT}"
        raise ArchiveError(message)
    if sum(map(data.count, _TOKENS)) > TOKENS_LIMIT and _count_outside(data) > TOKENS_LIMIT:
        message = f"{name} has too many entries"
        raise ArchiveError(message)
    try:
        text = data.decode("ascii")
        return json.loads(text, parse_int=_to_int, parse_float=_to_float, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        message = f"{name} is not valid JSON: {error}"
        raise ArchiveError(message) from error


def _count_outside(data: bytes) -> int:
    """Return how many commas and opening brackets are outside of strings."""
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = _STRING.sub(b"", plain)
    return sum(map(outside.count, _TOKENS))


def _to_int(digits: str) -> int:
    if len(digits) > _DIGITS_LIMIT:
        raise ValueError("a number has too many digits")
    return int(digits)


def _to_float(digits: str) -> float:
    if len(digits) > _DIGITS_LIMIT:
        raise ValueError("a number has too many digits")
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _refuse(name: str) -> NoReturn:
    message = f"{name} is not a number of JSON"
    raise ValueError(message)
