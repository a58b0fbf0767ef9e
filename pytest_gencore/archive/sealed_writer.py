"""Write sealed archives: a short manifest that everybody can read, and one member with the rest, encrypted.

The member is an archive itself, but for its manifest, which is its last member. That is also in the short
one, encrypted, so that a reader who has a key need not read to the end. See docs/adr/0034-sealed-archives.md.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import TYPE_CHECKING, Any, Final, final

from pytest_gencore.age import Encryption, encrypt
from pytest_gencore.archive.gzip_writer import write_all, write_parts
from pytest_gencore.archive.names import MANIFEST_NAME, SEALED_NAME
from pytest_gencore.archive.tar_writer import BLOCK, end_size
from pytest_gencore.archive.writer import FileWriter, list_stored, stored_gzip, write_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

_CLEAR: Final = frozenset(
    {
        "schema_version",
        "name",
        "created",
        "complete",
        "nodeid",
        "phase",
        "place",
        "attempt",
        "worker_id",
        "pid",
        "child_of",
        "threads_stopped",
        "type",
        "method",
        "core",
        "timings",
        "versions",
    }
)
"""Fields of the manifest that stay readable."""
_CLEAR_OF_TRIGGER: Final = frozenset(
    {"kind", "signal", "signal_number", "deadline_s", "deadline_source", "exception"}
)
_STORED: Final = 1 << 20
"""Bytes of a gzip member that is not compressed: what is encrypted cannot be."""


def reduce_manifest(document: dict[str, Any], sealed: dict[str, Any]) -> dict[str, Any]:
    """Return of a decoded manifest what everybody may read, with the facts about the sealed part."""
    reduced = {
        name: value if name in _CLEAR else [] if isinstance(value, list) else None
        for name, value in document.items()
    }
    trigger = document["trigger"]
    reduced["trigger"] = {name: trigger[name] for name in sorted(_CLEAR_OF_TRIGGER)}
    reduced["method_reason"] = ""
    reduced["open_with"] = f"gencore stacks --identity FILE {document['name']}.tar.gz"
    reduced["sealed"] = sealed
    return reduced


@final
class SealedWriter(FileWriter):
    """Writes an archive that only its recipients can read; nothing else of it touches the disk."""

    def __init__(
        self,
        file: BinaryIO,
        top: str,
        mtime: int,
        recipients: Sequence[Any],
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Begin an archive in ``file``, as ``ArchiveWriter``; ``recipients`` are those of ``age``.

        ``on_progress`` is called with bytes that went into the compressor.
        """
        self._recipients = recipients
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._sealed_size = 0
        self._encryption = Encryption(self._take, recipients)
        super().__init__(file, self._encryption.descriptor, top, mtime, on_progress)

    def __enter__(self) -> SealedWriter:
        return self

    def reserve_manifest(self, text: bytes, slack: int) -> None:
        """Write the short manifest as the first member, and begin the sealed one."""
        super().reserve_manifest(self._shorten(text), 2 * slack)  # it is written in base 64
        write_all(self._descriptor, self._sealed_header())
        self._encryption.start()

    def rewrite_manifest(self, text: bytes) -> None:
        """Write the short manifest of this one again. Raises ManifestTooLongError."""
        super().rewrite_manifest(self._shorten(text))

    def finish(self, describe: Callable[[], bytes]) -> None:
        """Write the manifest that ``describe`` makes, and the end. Raises ManifestTooLongError last."""
        text = describe()
        self.add_bytes(MANIFEST_NAME, text)
        self.close()
        self.rewrite_manifest(text)

    def abort(self) -> None:
        """Stop without finishing; raises what has ended the encryption, if that is the reason."""
        super().abort()
        self._encryption.abort()
        self._encryption.raise_error()

    def _close(self) -> None:
        self._finish_tar()
        self._encryption.finish()
        self._store()
        padding = -self._sealed_size % BLOCK
        before = self._manifest_tar_size + len(self._tar_headers()) + self._sealed_size + padding
        write_all(self._descriptor, stored_gzip(bytes(padding + end_size(before))))
        write_at(self._descriptor, self._sealed_header(), self._reserved)

    def _shorten(self, text: bytes) -> bytes:
        sealed = {
            "recipients": len(self._recipients),
            "manifest": base64.b64encode(encrypt(zlib.compress(text), self._recipients)).decode(),
        }
        return json.dumps(reduce_manifest(json.loads(text), sealed), indent=1).encode()

    def _tar_headers(self) -> bytes:
        return self._folder_header() + self._header(SEALED_NAME, self._sealed_size)

    def _sealed_header(self) -> bytes:
        return stored_gzip(self._tar_headers())

    def _take(self, data: bytes) -> None:
        """Write encrypted data, in the thread of the encryption."""
        self._pending.append(data)
        self._pending_size += len(data)
        self._sealed_size += len(data)
        if self._pending_size >= _STORED:
            self._store()

    def _store(self) -> None:
        if self._pending:
            write_parts(self._descriptor, list_stored(*self._pending))
            self._pending, self._pending_size = [], 0
