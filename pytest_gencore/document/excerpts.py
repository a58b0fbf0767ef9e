"""Source around the lines of the project's frames, from the source files of the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_gencore.archive.fields import is_safe_path
from pytest_gencore.archive.names import member_of, without_drive
from pytest_gencore.document.model import Excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_gencore.archive.reader import Archive

AROUND: Final = 4
"""Lines before and after that of a frame."""
_LINES_LIMIT: Final = 5000
_LINE_LENGTH: Final = 400


def read_excerpts(archive: Archive, lines: Iterable[tuple[str, int | None]]) -> tuple[Excerpt, ...]:
    """Return what is around some lines, by file; at most 5,000 lines, the first ones. Raises ArchiveError."""
    wanted: dict[str, list[int]] = {}
    for file, line in lines:
        if line and is_safe_path(without_drive(file)):
            wanted.setdefault(file, []).append(line)
    if not wanted:
        return ()
    members = archive.read_members({member_of(file) for file in wanted})
    left = _LINES_LIMIT
    found = []
    for file, numbers in wanted.items():
        member = members.get(member_of(file))
        if member is None:
            continue
        text = member.data.decode("utf-8", "replace")
        source = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for first, last in _ranges(sorted(number for number in numbers if number <= len(source))):
            shown = tuple(line[:_LINE_LENGTH] for line in source[first - 1 : min(last, first - 1 + left)])
            left -= len(shown)
            if shown:
                found.append(Excerpt(file=file, first=first, lines=shown))
    return tuple(found)


def _ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last line of each group of lines that are near one another."""
    first = last = 0
    for number in numbers:
        if last and number - AROUND <= last + 1:
            last = number + AROUND
            continue
        if last:
            yield first, last
        first, last = max(1, number - AROUND), number + AROUND
    if last:
        yield first, last
