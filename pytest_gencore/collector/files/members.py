"""Write executable and libraries into an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_gencore.archive.writer import FileWriter
    from pytest_gencore.collector.files.libraries import Library


def add_libraries(archive: FileWriter, libraries: Iterable[Library], notices: list[str]) -> None:
    """Add them and their aliases; what cannot be read is zeros, and ``notices`` and their notes say so."""
    for library in libraries:
        chunks = _readable_chunks(library, notices)
        missing = archive.add_stream(library.path, library.size, chunks, 0o700)
        if missing and not library.note:
            library.note = f"{missing} bytes could not be read and are zeros"
        for alias in library.aliases:
            archive.add_link(alias, library.path)


def _readable_chunks(library: Library, notices: list[str]) -> Iterator[bytes]:
    """Yield what can be read; the rest costs nothing but itself."""
    try:
        yield from library.chunks()
    except OSError as error:
        notices.append(f"{library.path} could not be read to its end: {error.strerror}")
