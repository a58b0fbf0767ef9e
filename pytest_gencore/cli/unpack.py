"""``gencore unpack``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_gencore.cli.options import archive_argument, examples
from pytest_gencore.cli.sealed import identity_option, read_given
from pytest_gencore.cli.workspace import unpack_with_progress
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from pytest_gencore.archive.opening import ArchivePlace


@click.command(
    epilog=examples(
        "gencore unpack core_20261121.225921.9520.001.tar.gz",
        'cd "$(gencore unpack core_20261121.225921.9520.001.tar.gz /var/tmp)"',
    )
)
@archive_argument
@identity_option
@click.argument("directory", default=".", type=click.Path(file_okay=False, path_type=Path))
def unpack(archive: ArchivePlace, directory: Path) -> None:
    """Unpack ARCHIVE into a new folder of its name in DIRECTORY (default: here), and print the folder.

    The archive is not trusted: nothing is written outside of the folder, sizes must be those of the manifest,
    free space is checked first. The core's holes stay holes; the folder is for you only. Exit status 1 if the
    archive is damaged, does not fit or the folder exists; then there is no folder.
    """
    folder = unpack_with_progress(read_given(archive), directory)
    click.echo(escape_unprintable(str(folder)))
