"""Read sealed archives with a key: see ``pytest_gencore.archive.sealed_writer``."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import zlib
from typing import TYPE_CHECKING, Any

from pytest_gencore.age import Decryption, decrypt
from pytest_gencore.archive.gzip_stream import GzipStream
from pytest_gencore.archive.json_text import JSON_LIMIT
from pytest_gencore.archive.manifest_parser import parse_manifest
from pytest_gencore.archive.names import MANIFEST_NAME, SEALED_NAME
from pytest_gencore.archive.tar_stream import TarStream
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gencore.archive.opened import OpenArchive
    from pytest_gencore.archive.tar_stream import Member


@contextlib.contextmanager
def unsealed(opened: OpenArchive, keys: Sequence[Any]) -> Iterator[OpenArchive]:
    """Give what is in the sealed part of an archive, decrypted while it is read.

    ``keys`` are those of ``read_identities``. Raises ArchiveError, also while it is read: what comes before
    is authentic.
    """
    facts = opened.manifest.sealed
    assert facts is not None
    try:
        encrypted = base64.b64decode(facts.manifest, validate=True)
    except ValueError as error:  # binascii.Error, or what is not ASCII
        raise ArchiveError("the archive is corrupt: its manifest is not in base 64") from error
    text = _decompress(decrypt(encrypted, keys))
    manifest = parse_manifest(text)
    if manifest.name != opened.manifest.name or manifest.sealed is not None:
        raise ArchiveError("the archive is corrupt: its manifest is that of another one")
    for member in opened.members:
        if opened.inner_name(member) == SEALED_NAME and member.kind == "file" and member.extents is None:
            break
    else:
        raise ArchiveError("the archive is corrupt: it lacks its sealed part")
    with contextlib.closing(Decryption(opened.tar.read, keys)) as decryption:
        tar = TarStream(GzipStream(decryption))
        yield dataclasses.replace(
            opened,
            manifest=dataclasses.replace(manifest, sealed=facts),
            manifest_text=text,
            tar=tar,
            members=_without_manifest(tar, f"{manifest.name}/{MANIFEST_NAME}"),
        )


def _decompress(data: bytes) -> bytes:
    """Return a manifest; one above the limit is cut, so that its parser refuses it. Raises ArchiveError."""
    try:
        return zlib.decompressobj().decompress(data, JSON_LIMIT + 1)
    except zlib.error as error:
        message = f"the archive is corrupt: {error}"
        raise ArchiveError(message) from error


def _without_manifest(tar: TarStream, name: str) -> Iterator[Member]:
    """Yield the members but the manifest, which is known."""
    return (member for member in tar.members() if member.name != name)
