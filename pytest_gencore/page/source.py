"""Lines of source around those of frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_gencore.document.model import Excerpt

_AROUND: Final = 3


class Line(NamedTuple):
    """A line."""

    number: int
    text: str
    is_here: bool
    """Whether it is the one that runs."""


class Sources:
    """The excerpts of a document, by file."""

    def __init__(self, excerpts: Iterable[Excerpt]) -> None:
        self._excerpts: dict[str, list[Excerpt]] = {}
        for excerpt in excerpts:
            self._excerpts.setdefault(excerpt.file, []).append(excerpt)

    def around(self, file: str, line: int | None, count: int | None = None) -> tuple[Line, ...]:
        """Return the lines around one, so many before and after; none if they are not known."""
        if line is None:
            return ()
        reach = _AROUND if count is None else count
        for excerpt in self._excerpts.get(file, ()):
            if excerpt.first <= line < excerpt.first + len(excerpt.lines):
                start = max(excerpt.first, line - reach)
                end = min(excerpt.first + len(excerpt.lines), line + reach + 1)
                return tuple(
                    Line(number, excerpt.lines[number - excerpt.first], number == line)
                    for number in range(start, end)
                )
        return ()

    def only(self, line: int | None, text: str) -> tuple[Line, ...]:
        """Return a line whose neighbours are not known."""
        return (Line(line or 0, text, is_here=True),)
