"""Archives in a store, seen from outside: by their names, as a store lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gencore.cli.artifacts import parse_name
from pytest_gencore.cli.output import note
from pytest_gencore.store.stored import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.store.stored import File, Listing


def find_stored(url: str) -> tuple[Store, Listing]:
    """Return a store, and what has an archive's name in it, oldest first; raises StoreError."""
    store = Store(url)
    listing = store.list_files()
    found = sorted((order, file) for file, order in _named(listing.files))
    return store, listing._replace(files=[file for _, file in found])


def tell_closed(listing: Listing) -> None:
    """Name the folders of a store that cannot be looked into."""
    for folder in listing.closed:
        note(f"{folder.url} cannot be read: {folder.reason}")


def _named(files: list[File]) -> Iterator[tuple[File, tuple[float, int, int]]]:
    for file in files:
        order = parse_name(file.url.rpartition("/")[2])
        if order is not None:
            yield file, order
