"""Fields of tar headers and records of pax headers, see pax(1) and the GNU tar manual."""

from __future__ import annotations

from pytest_gencore.errors import ArchiveError

_DIGITS = b"01234567"


def parse_number(field: bytes) -> int:
    """Return a number of a header: octal, or base 256 as GNU tar writes large ones. Raises ArchiveError."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(_DIGITS):
        raise ArchiveError("the archive is corrupt: a number in a header is none")
    return int(digits or b"0", 8)


def parse_records(data: bytes) -> dict[str, str]:
    """Return the records of a pax header, ``LENGTH KEY=VALUE`` and a newline each. Raises ArchiveError."""
    records: dict[str, str] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        length = data[position:space]
        if space < 0 or not length.isdigit():
            break
        end = position + int(length)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        is_whole = space + 1 < end <= len(data) and data[end - 1 : end] == b"\n"
        if not is_whole or not equals or b"\0" in value:
            break
        records[_decode(key)] = _decode(value)
        position = end
    if position != len(data):
        raise ArchiveError("the archive is corrupt: a pax header is damaged")
    return records


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
