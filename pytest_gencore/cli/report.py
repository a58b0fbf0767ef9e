"""``gencore report``: one file for the browser."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_gencore.cli.documents import read_documents
from pytest_gencore.cli.options import ArchiveFile, examples
from pytest_gencore.cli.sealed import identity_option
from pytest_gencore.run.files import page_beside
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_gencore.archive.opening import ArchivePlace
    from pytest_gencore.document.model import Document


@click.command(
    epilog=examples(
        "gencore report core_20261121.225921.9520.001.tar.gz",
        "gencore report -o hangs.html gencore-artifacts/*.tar.gz",
    )
)
@click.argument("archives", nargs=-1, required=True, type=ArchiveFile(), metavar="ARCHIVE...")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one page about all of them there.  [default: one beside each ARCHIVE, NAME.html]",
)
@identity_option
def report(archives: tuple[ArchivePlace, ...], *, output: Path | None) -> None:
    """Write a page for the browser about each ARCHIVE, and print its path.

    The page needs no network. It has what `gencore diagnose` tells, source and locals; the core is not read.
    Exit status 1 if an archive cannot be read; standard error says why, and the others are told.
    """
    make_page = _find_renderer()
    documents: list[Document] = []
    failed = False
    for path, document in read_documents(archives):
        if document is None:
            failed = True
            continue
        documents.append(document)
        if output is None:
            _write(page_beside(path if isinstance(path, Path) else Path(path.name)), make_page([document]))
    if output is not None and documents:
        _write(output, make_page(documents))
    if failed:
        raise SystemExit(1)


def _find_renderer() -> Callable[[Sequence[Document]], str]:
    try:
        from pytest_gencore.page.render import make_page
    except ImportError as error:
        if error.name not in ("jinja2", "markupsafe"):
            raise
        raise click.ClickException(
            "gencore report needs jinja2: pip install 'pytest-gencore[html]'"
        ) from error
    return make_page


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step; raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode(errors="replace"))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    click.echo(escape_unprintable(str(path)))
