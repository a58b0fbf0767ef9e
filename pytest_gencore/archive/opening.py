"""Open a file and read its manifest."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from pytest_gencore.archive.gzip_stream import GzipStream
from pytest_gencore.archive.json_text import JSON_LIMIT
from pytest_gencore.archive.manifest_parser import parse_manifest
from pytest_gencore.archive.names import MANIFEST_NAME
from pytest_gencore.archive.opened import OpenArchive
from pytest_gencore.archive.tar_stream import TarStream
from pytest_gencore.errors import ArchiveError
from pytest_gencore.unpatched import NO_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from pytest_gencore.archive.gzip_stream import Readable
    from pytest_gencore.archive.tar_stream import Member


_HEADERS_LIMIT: Final = 256 << 10
_TOP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,199}")


class Remote(Protocol):
    """An archive that is not a file of this machine; its text is where it is."""

    @property
    def name(self) -> str:
        """Of the file."""

    @property
    def size(self) -> int:
        """Bytes of the file."""

    def open(self) -> AbstractContextManager[Readable]:
        """Give what reads the file from its beginning; that raises ArchiveError."""


ArchivePlace: TypeAlias = "Path | Remote"


@contextlib.contextmanager
def _open(place: ArchivePlace) -> Iterator[Readable]:
    if not isinstance(place, Path):
        with place.open() as reader:
            yield reader
        return
    descriptor = os.open(place, os.O_RDONLY | NO_WAIT)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArchiveError("not a regular file")
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        yield file


@contextlib.contextmanager
def open_archive(place: ArchivePlace, keys: Sequence[Any] = ()) -> Iterator[OpenArchive]:
    """Open a file and read its manifest; raises ArchiveError and OSError.

    ``keys`` are private ones, as ``read_identities`` returns them, for a sealed archive: without any only its
    short manifest can be read.
    """
    with _open(place) as file:
        stream = GzipStream(file, input_limit=JSON_LIMIT + _HEADERS_LIMIT)
        tar = TarStream(stream)
        members = tar.members()
        first = next(members, None)
        top, slash, name = first.name.partition("/") if first else ("", "", "")
        if first is None or slash + name != f"/{MANIFEST_NAME}" or not _TOP.fullmatch(top):
            raise ArchiveError("not an archive of pytest-gencore: the first member is not a manifest")
        if first.kind != "file" or first.extents is not None or first.size > JSON_LIMIT:
            message = f"the manifest is not a file of at most {JSON_LIMIT} bytes"
            raise ArchiveError(message)
        text = tar.read_exactly(first.size)
        manifest = parse_manifest(text)
        if manifest.name != top:
            raise ArchiveError("the archive's top folder is not what its manifest says")
        stream.lift_input_limit()
        opened = OpenArchive(manifest, text, first.mtime, tar, members)
        if manifest.sealed is None:
            yield opened
        elif not keys:
            yield replace(opened, members=_refuse(manifest.sealed.recipients))
        else:
            from pytest_gencore.archive.unsealing import unsealed  # few archives need it

            with unsealed(opened, keys) as readable:
                yield readable


def _refuse(recipients: int) -> Iterator[Member]:
    """Stand for members that cannot be read without a key: raises ArchiveError when one is asked for."""
    yield from ()
    message = f"the archive is sealed for {recipients} recipient{'s' if recipients != 1 else ''}"
    raise ArchiveError(message, help_text="give the private key of one with --identity FILE")
