"""Sealed archives on the command line: the option ``--identity``, and opening with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pytest_gencore.archive import Archive, read_archive
from pytest_gencore.cli.output import note
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from pytest_gencore.archive.opening import ArchivePlace

_KEY: Final = f"{__name__}.identities"
_DEFAULT: Final = "~/.ssh/id_ed25519"


def _remember(ctx: click.Context, param: click.Parameter, value: tuple[Path, ...]) -> None:  # noqa: ARG001 - click's signature
    ctx.meta[_KEY] = value


identity_option: Final = click.option(
    "--identity",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="GENCORE_IDENTITY",
    show_envvar=True,
    expose_value=False,
    callback=_remember,
    help=f"A file with a private key of age or SSH, for a sealed ARCHIVE; repeatable.  [default: {_DEFAULT}]",
)
"""What ``read_given`` opens with; commands do not see it."""


def read_given(path: ArchivePlace) -> Archive:
    """Read an archive with the private keys that the command was given, else with the default one.

    If the default key does not open a sealed archive, only its short manifest is there. Raises as
    ``read_archive``.
    """
    identities = click.get_current_context().meta.get(_KEY, ())
    if identities:
        return read_archive(path, identities=identities)
    archive = read_archive(path)
    if archive.manifest.sealed is None:
        return archive
    try:
        default = Path(_DEFAULT).expanduser()
        if not default.is_file():
            return archive
    except (OSError, RuntimeError):  # it cannot be looked at, or there is no home directory
        return archive
    try:
        return read_archive(path, identities=(default,))
    except (ArchiveError, OSError) as error:
        note(f"{default} does not open it: {error}")
        return archive
