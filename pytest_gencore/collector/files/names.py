"""Which files go into the archive under which names: only such as its readers accept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_gencore.archive.names import MemberNames

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_gencore.collector.files.libraries import Library

_OWN: Final = ("gencore.json", "stacks.txt", "failure.txt", "open.gdb", "core")


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
    kept = []
    for path, data in sources:
        fault = names.add(path)
        if fault:
            notices.append(f"source /{path} is left out: {fault}")
        else:
            kept.append((path, data))
    return kept
