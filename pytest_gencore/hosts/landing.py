"""A file that comes from another host: it has no name until all of it is there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
from typing import TYPE_CHECKING, Final

from pytest_gencore.errors import ArchiveError
from pytest_gencore.run.files import PARTIAL_SUFFIX
from pytest_gencore.run.naming import give_name
from pytest_gencore.run.pinned import create_private

if TYPE_CHECKING:
    from pathlib import Path

_IS_LINUX: Final = sys.platform.startswith("linux")


class Landing:
    """One file on its way."""

    def __init__(self, path: Path, size: int) -> None:
        """Make a file without a name where it will be; its directory is made if need be. Raises OSError.

        Where the file system wants a name it has that of an archive that is not finished.
        """
        self.path = path
        self.size = size
        self.done = 0
        self._digest = hashlib.sha256()
        self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = _create(self._partial)

    def add(self, piece: bytes) -> None:
        """Write the next piece; raises OSError and ArchiveError."""
        if self.done + len(piece) > self.size:
            raise ArchiveError(self._describe_size(self.done + len(piece)))
        self._digest.update(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self.done += len(piece)

    def finish(self, digest: str) -> None:
        """Give it its name, never over another file; raises OSError and ArchiveError."""
        if self.done != self.size:
            raise ArchiveError(self._describe_size(self.done))
        if self._digest.hexdigest() != digest:
            message = "what arrived is not what was sent: the digests differ"
            raise ArchiveError(message)
        if _IS_LINUX:
            give_name(self._descriptor, self._partial, self.path)
            return
        if self.path.exists():
            message = f"{self.path} exists already"
            raise ArchiveError(message)
        os.close(self._descriptor)  # Windows renames no open file
        self._descriptor = -1
        self._partial.rename(self.path)

    def close(self) -> None:
        """Leave nothing that has not its name; may be called again."""
        if self._descriptor >= 0:
            status = os.fstat(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            with contextlib.suppress(OSError):
                if os.path.samestat(status, self._partial.lstat()):
                    self._partial.unlink()

    def _describe_size(self, arrived: int) -> str:
        return f"what arrived is not what was sent: {arrived} bytes of {self.size}"


def _create(partial: Path) -> int:
    flags = getattr(os, "O_TMPFILE", 0)
    if flags and _IS_LINUX:
        try:
            return os.open(partial.parent, flags | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                raise
    return create_private(partial)
