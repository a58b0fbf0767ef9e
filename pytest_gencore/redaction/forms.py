"""The ways in which programs write a value: encodings of characters, and what is made for other formats."""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.parse
from typing import TYPE_CHECKING, Final

from pytest_gencore.redaction.secrets import LEAST_BYTES, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDE: Final = (("utf-16-le", 2), ("utf-32-le", 4))
"""As CPython keeps strings that are not ASCII, and Windows, Java and Qt theirs."""
_XML_TEXT: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_XML_ATTRIBUTE: Final = _XML_TEXT | str.maketrans({'"': "&quot;", "'": "&#x27;"})
"""The module ``html`` has them, too, but takes as long to be imported as all the rest of this package."""


def list_forms(value: str) -> dict[bytes, int]:
    """Return the byte strings that say a value, each with the bytes of one of its characters.

    UTF-8; Latin-1, UTF-16 and UCS-4, little endian; the three alignments in base64, of both alphabets, but
    for the characters that neighbours have a part in; what URLs, JSON, XML and Python's ``repr`` make of it;
    and all of those in wide characters, too. Shorter ones than ``LEAST_BYTES`` are left out.
    """
    forms: dict[bytes, int] = {encode(value): 1}
    for text in {value, *_escaped(value), *_in_base64(value)}:
        for codec, width in (("utf-8", 1), ("latin-1", 1), *_WIDE):
            with contextlib.suppress(UnicodeError):  # not all can say it
                forms.setdefault(text.encode(codec), width)
    return {form: width for form, width in forms.items() if len(form) >= LEAST_BYTES}


def _escaped(value: str) -> Iterator[str]:
    raw = encode(value)
    yield urllib.parse.quote(raw, safe="")
    yield urllib.parse.quote(raw)
    yield urllib.parse.quote_plus(raw)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield ascii(value)[1:-1]
    yield repr(value)[1:-1]
    yield value.translate(_XML_TEXT)
    yield value.translate(_XML_ATTRIBUTE)
    yield value.translate(_XML_ATTRIBUTE | {ord("'"): "&apos;"})


def _in_base64(value: str) -> Iterator[str]:
    raw = encode(value)
    for before in range(3):
        first = -(-before * 8 // 6)  # whole characters: others have bits of a neighbour
        last = (before + len(raw)) * 8 // 6
        text = base64.b64encode(bytes(before) + raw + bytes(2)).decode()[first:last]
        if len(text) >= LEAST_BYTES:
            yield text
            yield text.replace("+", "-").replace("/", "_")
