"""The documents of the archives that a command was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gencore.cli.output import note
from pytest_gencore.cli.sealed import read_given
from pytest_gencore.document.encode import make_document
from pytest_gencore.errors import GencoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_gencore.archive.opening import ArchivePlace
    from pytest_gencore.document.model import Document


def read_documents(archives: Iterable[ArchivePlace]) -> Iterator[tuple[ArchivePlace, Document | None]]:
    """Yield the document of each archive; None for one that cannot be read: standard error says why."""
    for path in archives:
        document = None
        try:
            document = make_document(read_given(path))
        except (GencoreError, OSError) as error:
            note(f"Error: {path}: {error}")
        yield path, document
