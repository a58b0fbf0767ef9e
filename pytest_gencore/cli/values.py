"""Values of options: sizes and times with units."""

from __future__ import annotations

import click

from pytest_gencore import units


def parse_size(text: str) -> int:
    """Return bytes, see ``units.parse_size``; raises click.BadParameter."""
    try:
        return units.parse_size(text)
    except ValueError as error:
        message = f"{text!r}: {error}"
        raise click.BadParameter(message) from None


def parse_duration(text: str) -> float:
    """Return seconds, see ``units.parse_duration``; raises click.BadParameter."""
    try:
        return units.parse_duration(text)
    except ValueError as error:
        message = f"{text!r}: {error}"
        raise click.BadParameter(message) from None
