"""Keep the libraries of a run once: in archives of their own, beside those that name them.

A collector writes what no archive of libraries has yet into a new one, while the others of the run wait. So
there is one, and a small one more for each capture that has met other libraries.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Protocol

from pytest_gencore.archive.writer import ArchiveWriter
from pytest_gencore.collector.files.members import add_libraries
from pytest_gencore.run.files import partial_name, shared_name
from pytest_gencore.run.library_index import LibraryIndex, LibraryKey
from pytest_gencore.run.naming import give_name
from pytest_gencore.run.pinned import create_private

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gencore.collector.files.libraries import Library
    from pytest_gencore.collector.outcome.progress import Progress
    from pytest_gencore.collector.source.handover import Handover

_MANIFEST_SLACK = 65536


class Describe(Protocol):
    """Makes the manifest of an archive of libraries."""

    def __call__(self, name: str, libraries: Sequence[Library], notices: Sequence[str]) -> bytes:
        """Return it as it is in the archive ``name``."""


def keep_libraries(
    handover: Handover, libraries: Sequence[Library], describe: Describe, progress: Progress
) -> list[str]:
    """See to it that archives in the artifact directory have all of them; return the names of these.

    All have an identity and an open file. Raises OSError, and what ``progress`` raises.
    """
    index = LibraryIndex(handover.run_folder)
    keyed = {LibraryKey(library.path, library.identity or ""): library for library in libraries}
    with index.locked():
        known = index.find(handover.directory)
        missing = [key for key in keyed if key not in known]
        if missing:
            archive = handover.directory / f"{shared_name(handover.name)}.tar.gz"
            _write(archive, handover, [keyed[key] for key in missing], describe, progress)
            index.add(archive, missing)
            known.update(dict.fromkeys(missing, archive.name))
    return sorted({known[key] for key in keyed})


def _write(
    archive: Path, handover: Handover, libraries: list[Library], describe: Describe, progress: Progress
) -> None:
    name = shared_name(handover.name)
    partial = archive.with_name(partial_name(name))
    mtime = handover.started_ns // 1_000_000_000
    notices: list[str] = []
    try:
        with os.fdopen(create_private(partial), "wb", buffering=0) as file:
            with ArchiveWriter(file, name, mtime, on_progress=progress.advance) as writer:
                writer.reserve_manifest(describe(name, libraries, ()), _MANIFEST_SLACK)
                writer.add_top_folder()
                add_libraries(writer, libraries, notices)
            writer.rewrite_manifest(describe(name, libraries, notices))
            give_name(file.fileno(), partial, archive)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
