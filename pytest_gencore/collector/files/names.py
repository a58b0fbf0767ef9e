"""Which files go into the archive under which names: only such as its readers accept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pytest_gencore.archive.names import MemberNames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_gencore.collector.files.libraries import Library

_OWN: Final = (
    "gencore.json",
    "stacks.txt",
    "diagnosis.json",
    "failure.txt",
    "output.txt",
    "open.gdb",
    "core",
)
_LISTED_LIMIT: Final = 2 << 20
"""Bytes of the manifest for libraries: readers take 4 MiB of it."""
_ENTRY: Final = 200
"""Bytes of an entry without its texts."""
_NOTICES: Final = 5


def limit_listing(libraries: Sequence[Library], notices: list[str]) -> list[Library]:
    """Return those of which the manifest can tell, in the same order: the shortest paths come first."""
    left = _LISTED_LIMIT
    kept = set()
    for number, library in sorted(enumerate(libraries), key=lambda item: len(item[1].path)):
        size = _ENTRY + len(json.dumps((library.path, library.build_id, library.note, library.aliases)))
        if size <= left:
            left -= size
            kept.add(number)
        else:
            library.leave_out("")
    if len(kept) < len(libraries):
        notices.append(f"too many libraries: {len(libraries) - len(kept)} left out and not listed")
    return [library for number, library in enumerate(libraries) if number in kept]


def settle_names(
    top: str, libraries: Iterable[Library], sources: list[tuple[str, bytes]], notices: list[str]
) -> list[tuple[str, bytes]]:
    """Leave out of an archive what cannot have its name in it, and say so; return the sources that can.

    ``top`` is the archive's top folder. Libraries come first, then their aliases, then sources.
    """
    names = MemberNames(top)
    for own in _OWN:
        names.add(own)
    included = [library for library in libraries if library.source is not None]
    for library in included:
        fault = names.add(library.path)
        if fault:
            library.leave_out(f"left out: {fault}")
    for library in included:
        aliases = tuple(alias for alias in library.aliases if not names.add(alias))
        if len(aliases) < len(library.aliases):
            library.add_note(f"{len(library.aliases) - len(aliases)} of its other names are left out")
        library.aliases = aliases
    kept, refused = [], []
    for path, data in sources:
        fault = names.add(path)
        if fault:
            refused.append(f"source /{path} is left out: {fault}")
        else:
            kept.append((path, data))
    if len(refused) > _NOTICES:
        refused[_NOTICES:] = [f"more sources left out for their names: {len(refused) - _NOTICES}"]
    notices += refused
    return kept
