"""What several subcommands have."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final

import click

from pytest_gencore.store.url import is_url, parse_url

ARCHIVE_KEY: Final = f"{__name__}.archive"
"""In the context's ``meta``: the archive that a command is about."""


class ArchiveFile(click.Path):
    """An existing file, or the URL of one in a store; says why one cannot be read."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check it, and remember it for error messages."""
        url = convert_url(ctx, param, value)
        if url is not None:
            from pytest_gencore.store.stored import open_stored  # few commands need it

            return open_stored(url)
        try:
            is_folder = stat.S_ISDIR(os.stat(value).st_mode)  # noqa: PTH116 - as click
        except PermissionError as error:
            self.fail(f"{value}: {error.strerror}", param, ctx)
        except OSError:
            is_folder = False
        if is_folder:
            self.fail(f"{value} is a directory; list its archives: gencore list DIRECTORY", param, ctx)
        path = super().convert(value, param, ctx)
        if ctx is not None:
            ctx.meta[ARCHIVE_KEY] = path
        return path


class Directory(click.Path):
    """A directory, or the URL of a store."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path, or the text of a URL."""
        url = convert_url(ctx, param, value)
        return super().convert(value, param, ctx) if url is None else url


def convert_url(ctx: click.Context | None, param: click.Parameter | None, value: Any) -> str | None:
    """Return a URL, checked and remembered for error messages; None for what is meant as a path."""
    if not isinstance(value, str) or not is_url(value):
        return None
    try:
        url = parse_url(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    if ctx is not None:
        ctx.meta[ARCHIVE_KEY] = url
    return url


library_path_option: Final = click.option(
    "--library-path",
    "library_path",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A folder or an archive: look there, too, for libraries that ARCHIVE only names; repeatable.",
)
archive_argument: Final = click.argument("archive", type=ArchiveFile())


def examples(*lines: str) -> str:
    """Return the end of a help text; click leaves its line breaks as they are."""
    return "\n  ".join(("\b\nExamples:", *lines))
