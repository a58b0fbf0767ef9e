"""What is printed: nothing that a terminal could take for a command, JSON for programs."""

from __future__ import annotations

import json
from typing import Any

import click

from pytest_gencore.texts import escape_unprintable


def echo_text(text: str) -> None:
    """Print a text of an archive or a debugger; lines and tabs stay."""
    for line in text.splitlines():
        click.echo(escape_unprintable(line, keep="\t"))


def note(message: str) -> None:
    """Tell the user something that is no result, on standard error."""
    click.echo(escape_unprintable(message), err=True)


def echo_json(value: Any) -> None:
    """Print JSON in ASCII."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=True))
