"""Text that is safe to show: in a log, in a report, on a terminal."""

from __future__ import annotations


def escape_unprintable(text: str, *, keep: str = "") -> str:
    r"""Write every character that is not printable as an escape (``\x1b``), except those to keep.

    That includes terminal control, and marks that change the direction of text.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
