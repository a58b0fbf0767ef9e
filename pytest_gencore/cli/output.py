"""What is printed: nothing that a terminal could take for a command, JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from pytest_gencore.archive import Manifest


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


def list_said(manifest: Manifest) -> list[str]:
    """Return lines with what the process itself said last: why glibc aborted, the end of its output."""
    message = manifest.trigger.abort_message
    return [*([] if message is None else [f"glibc: {message}"]), *manifest.last_output]
