"""Overwrite secret values wherever they are written, with as many bytes: what has an offset keeps it."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Final

from pytest_gencore.redaction.forms import list_forms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FILL: Final = b"*"
_PIECE: Final = 512
"""Characters in which long values are looked for: what reaches from one block into the next is bounded."""
_CUT: Final = re.compile(r"\.\.\.|…")
_LEAST_CUT: Final = 6
_LONGEST_CUT: Final = 256
"""Characters of a value beside the mark of a cut that are taken for a part of it: at least, at most."""


class Redactor:
    """Overwrites the forms of some values; may be used by several threads."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        """Make the table; without values nothing is ever changed."""
        self._values = sorted(set(values), key=len, reverse=True)
        forms: dict[bytes, int] = {}
        for piece in (piece for value in self._values for piece in _cut(value)):
            for form, width in list_forms(piece).items():
                forms.setdefault(form, width)
        self.patterns = len(forms)
        """How many byte strings are looked for."""
        self._lock = threading.Lock()
        self.places = 0
        """How many were overwritten so far; those in both of two blocks that overlap count once."""
        self.reach = max(map(len, forms), default=1) - 1
        """How many bytes before and behind a block belong to what may begin or end in it."""
        if forms:
            try:
                from pytest_gencore.redaction import _scanner
            except ImportError:  # it is not built here
                from pytest_gencore.redaction import slow_scanner as _scanner  # type: ignore[no-redef]

            self._scanner = _scanner
            narrow = [form for form, width in forms.items() if width == 1]
            wide = [form for form, width in forms.items() if width > 1]
            self._tables = [
                (_scanner.make_table(tuple(some)), [(len(form), forms[form]) for form in some])
                for some in (narrow, wide)  # the wide ones are longer, which makes looking for them faster
            ]

    def __bool__(self) -> bool:
        return self.patterns > 0

    def overwrite(self, data: bytearray, size: int, start: int = 0, end: int | None = None) -> None:
        """Overwrite what there is in the first bytes; what begins in ``start`` to ``end`` is counted.

        Nobody else may use the bytearray meanwhile.
        """
        if not self.patterns:
            return
        end = size if end is None else end
        offsets = set()
        for table, shapes in self._tables:
            for offset, number in self._scanner.find(table, data, size):
                length, width = shapes[number]
                data[offset : offset + length] = _FILL.ljust(width, b"\0") * (length // width)
                offsets.add(offset)
        places = sum(start <= offset < end for offset in offsets)
        if places:
            with self._lock:
                self.places += places

    def clean(self, data: bytes) -> bytes:
        """Return data with the values overwritten."""
        if not self.patterns:
            return data
        changed = bytearray(data)
        self.overwrite(changed, len(changed))
        return bytes(changed)

    def clean_text(self, text: str) -> str:
        """Return a text for people with the values overwritten; and their parts where it was cut short."""
        if not self.patterns:
            return text
        raw = self.clean(text.encode("utf-8", "surrogatepass"))
        return self._clean_cuts(raw.decode("utf-8", "surrogatepass"))

    def _clean_cuts(self, text: str) -> str:
        changed = list(text)
        for match in _CUT.finditer(text):
            start, end = match.span()
            for value in self._values:
                longest = min(len(value) - 1, _LONGEST_CUT)
                for size in range(longest, _LEAST_CUT - 1, -1):
                    if text.endswith(value[:size], 0, start):
                        changed[start - size : start] = "*" * size
                        break
                for size in range(longest, _LEAST_CUT - 1, -1):
                    if text.startswith(value[-size:], end):
                        changed[end : end + size] = "*" * size
                        break
        return "".join(changed)


def _cut(value: str) -> Iterator[str]:
    """Yield a value in pieces; the last one has more characters than the others."""
    start = 0
    while len(value) - start >= 2 * _PIECE:
        yield value[start : start + _PIECE]
        start += _PIECE
    yield value[start:]
