"""What several subcommands have."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

archive_argument: Final = click.argument(
    "archive", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)


def examples(*lines: str) -> str:
    """Return the end of a help text; click leaves its line breaks as they are."""
    return "\n  ".join(("\b\nExamples:", *lines))
