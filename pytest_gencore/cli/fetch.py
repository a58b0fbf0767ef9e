"""``gencore fetch``: copy archives from a store."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pytest_gencore.cli.artifacts import DEFAULT_DIRECTORY, is_shared_name, parse_name
from pytest_gencore.cli.options import convert_url, examples
from pytest_gencore.cli.output import note
from pytest_gencore.errors import ArchiveError, GencoreError, StoreError
from pytest_gencore.run.files import (
    ARCHIVE_SUFFIX,
    PARTIAL_SUFFIX,
    find_size,
    page_name,
    text_name,
)
from pytest_gencore.run.pinned import create_private
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from pytest_gencore.store.stored import StoredArchive

_PIECE: Final = 8 << 20


def _check_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    url = convert_url(ctx, param, value)
    if url is None:
        raise click.BadParameter("expected a URL", ctx, param)
    return url


@click.command(
    epilog=examples(
        "gencore fetch s3://BUCKET/FOLDER/RUN/core_20261121.225921.9520.001.tar.gz",
        "gencore fetch s3://BUCKET/FOLDER/RUN here",
    )
)
@click.argument("url", callback=_check_url)
@click.argument("directory", default=DEFAULT_DIRECTORY, type=click.Path(file_okay=False, path_type=Path))
def fetch(url: str, directory: Path) -> None:
    """Copy the archive at URL, or all below it, into DIRECTORY (default: gencore-artifacts); print the paths.

    With each archive come its text, its page, and the libraries that its run shares. All below a URL keep
    their folders. What is there already with the same size is left as it is. Exit status 1 if something
    cannot be copied.
    """
    found, is_all = _find(url, directory)
    copied = [_copy_or_tell(archive, path) for archive, path in found]
    if not is_all or not all(copied):
        raise SystemExit(1)


def _copy_or_tell(archive: StoredArchive, path: Path) -> bool:
    """Copy a file and print the path of an archive; else say why that cannot be done."""
    try:
        _copy(archive, path)
    except (GencoreError, OSError) as error:
        note(f"Error: {archive}: {error}")
        return False
    if parse_name(path.name) is not None:
        click.echo(escape_unprintable(str(path)))
    return True


def _find(url: str, directory: Path) -> tuple[list[tuple[StoredArchive, Path]], bool]:
    """Return what is to be copied, and where to, and whether that is all there is; raises StoreError."""
    from pytest_gencore.cli.stores import tell_closed
    from pytest_gencore.store.stored import Store, StoredArchive

    folder, _, name = url.rpartition("/")
    beside = {name, text_name(_stem(name)), page_name(_stem(name))}
    is_one = parse_name(name) is not None
    if not is_one:
        folder = url
    store = Store(folder)
    listing = store.list_files()
    is_all = is_one or not listing.closed
    if not is_all:
        tell_closed(listing)
    found = []
    for file in listing.files:
        *folders, name = file.url.removeprefix(f"{folder}/").split("/")
        if is_one and (folders or not (name in beside or is_shared_name(name))):
            continue
        if _is_ours(name) and _are_safe(folders):
            found.append((StoredArchive(store, file), directory.joinpath(*folders, name)))
        elif parse_name(name) is not None:
            note(f"{file.url} is left out: its folder has a name that is not safe")
            is_all = False
    if is_all and not any(parse_name(path.name) for _, path in found):
        raise StoreError("there is no archive")
    return found, is_all


def _stem(name: str) -> str:
    return name.removesuffix(ARCHIVE_SUFFIX)


def _is_ours(name: str) -> bool:
    """Whether a name is that of an archive, or of its text or page, or of an archive of libraries."""
    return parse_name(name) is not None or is_shared_name(name) or _is_beside(name)


def _is_beside(name: str) -> bool:
    """Whether a name is that of the text or the page of an archive."""
    stem = name.removesuffix(".txt").removesuffix(".html")
    return stem != name and parse_name(stem + ARCHIVE_SUFFIX) is not None


def _are_safe(folders: list[str]) -> bool:
    """Whether folders can have these names here: what a store says is not trusted."""
    return all(part not in ("", ".", "..") and part.isprintable() and "\\" not in part for part in folders)


def _copy(archive: StoredArchive, path: Path) -> None:
    """Copy a file; it has its name when it is whole. Raises StoreError, ArchiveError and OSError.

    A text or a page that is there stays: in the directory of the run, the text says what was uploaded since.
    """
    found = find_size(path)
    if found == archive.size or (found is not None and _is_beside(path.name)):
        return
    if os.path.lexists(path):
        message = f"{path} is there already, and is another file"
        raise ArchiveError(message, help_text="choose another directory")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    try:
        with os.fdopen(create_private(partial), "wb") as copy:
            while data := archive.read_range(copy.tell(), _PIECE):
                copy.write(data)
            if copy.tell() != archive.size:
                raise ArchiveError("the store has given fewer bytes than there should be")
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
