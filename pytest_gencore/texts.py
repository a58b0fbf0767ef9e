"""Text that is safe to show on a terminal, in a log or report, and to put into a debugger's command."""

from __future__ import annotations

import os
import re
import shlex
from typing import Final, NamedTuple

from pytest_gencore.installed import plain_path

_MISREAD: Final = frozenset(':"\\`')
_LINE_LENGTH: Final = 200


def escape_unprintable(text: str, *, keep: str = "") -> str:
    r"""Write every character that is not printable as an escape (``\x1b``), except those to keep.

    That includes terminal control, and marks that change the direction of text.
    """
    if text.isprintable() or text.translate(dict.fromkeys(map(ord, keep))).isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def printable(text: str, limit: int = _LINE_LENGTH) -> str:
    """Return text for one line of a log: cut, and with everything escaped that is not printable.

    Nothing in it is a command to a CI system that reads the log: GitHub takes ``::error::`` at the beginning
    of a line, whatever blanks stand before it, and ``##[error]`` anywhere; Azure ``##vso[``, TeamCity
    ``##teamcity[``.
    """
    shown = escape_unprintable(text if len(text) <= limit else f"{text[: limit - 3]}...")
    if shown.lstrip().startswith("::"):
        shown = shown.replace("::", r"\x3a:", 1)
    return re.sub(r"##(?=\w*\[)", r"#\\x23", shown) if "##" in shown else shown


def name_subject(nodeid: str | None, place: str, otherwise: str) -> str:
    """Return what was captured, for people: test, and where in or outside of it; or else ``otherwise``."""
    return ", ".join(filter(None, (nodeid, place))) or otherwise


def shorten_path(path: str | os.PathLike[str], base: str | os.PathLike[str]) -> str:
    """Return a path relative to a folder if it is below that, else as it is."""
    relative = os.path.relpath(path, base)
    return os.fspath(path) if relative.startswith(os.pardir) else relative


def command_to_open(archive: str, *, has_core: bool, is_sealed: bool) -> str:
    """Return the command that opens the core of an archive, or shows its stacks, sealed ones with a key."""
    key = "--identity FILE " if is_sealed else ""
    return f"gencore {'debug' if has_core else 'stacks'} {key}{shlex.quote(archive)}"


class Folders(NamedTuple):
    """Those of a pytest session, absolute; empty if not known."""

    rootdir: str = ""
    """Pytest's root directory: what is below it is the project's."""
    invocation_dir: str = ""
    """Where pytest was started: paths are shown relative to it."""

    def has(self, path: str) -> bool:
        """Return whether a file is below the root directory."""
        return _is_below(path, self.rootdir)

    def shorten(self, path: str) -> str:
        """Return a path as pytest shows those of the project; others as they are."""
        base = self.invocation_dir or self.rootdir
        return os.path.relpath(path, base) if self.has(path) or _is_below(path, base) else path


NOWHERE: Final = Folders()
"""There is no session: paths are shown as they are."""


def describe_event(kind: str, subject: str, *, is_child: bool) -> str:
    """Return what happened to whom, by the kind of a trigger; one of them is about children alone."""
    if not is_child:
        return f"{kind} of {subject}"
    return f"{'capture' if kind == 'child' else kind} of a child of {subject}"


def is_plain_path(path: str) -> bool:
    """Tell whether a path in a command means itself to gdb and lldb.

    Unprintable characters may end the command, a colon ends a folder of a list, a backslash joins lines, and
    lldb evaluates what is between backticks.
    """
    return path.isprintable() and _MISREAD.isdisjoint(path)


def _is_below(path: str, folder: str) -> bool:
    return bool(folder) and plain_path(path).startswith(f"{plain_path(folder).rstrip('/')}/")
