"""What is printed: nothing that a terminal could take for a command, JSON for programs."""

from __future__ import annotations

import json
import re
from typing import Any

import click

_SUSPICIOUS = re.compile(r"[^\x20-\x7e]")


def printable(text: str, *, keep: str = "") -> str:
    r"""Write every character that is not printable as an escape (``\x1b``), except those to keep.

    That includes terminal control, and marks that change the direction of text.
    """

    def escape(match: re.Match[str]) -> str:
        character = match.group()
        if character.isprintable() or character in keep:
            return character
        return (
            character.encode("ascii", "backslashreplace").decode() if character > "\x7f" else _hex(character)
        )

    return _SUSPICIOUS.sub(escape, text)


def _hex(character: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character, f"\\x{ord(character):02x}")


def echo_text(text: str) -> None:
    """Print a text of an archive or a debugger; lines and tabs stay."""
    for line in text.splitlines():
        click.echo(printable(line, keep="\t"))


def note(message: str) -> None:
    """Tell the user something that is no result, on standard error."""
    click.echo(printable(message), err=True)


def echo_json(value: Any) -> None:
    """Print JSON in ASCII."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=True))
