"""Which libraries the archives of a run share, and in which archives those are: for all of its collectors."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.run.concurrency import lock_patiently
from pytest_gencore.run.files import LIBRARIES
from pytest_gencore.run.pinned import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_LIMIT = 64 << 20


class LibraryKey(NamedTuple):
    """By what a file is known."""

    path: str
    identity: str


class LibraryIndex:
    """A file in the run's folder: a line of JSON for each archive of libraries."""

    def __init__(self, run_folder: Path) -> None:
        """If the run's folder is gone there is nothing to share: the index is empty and stays so."""
        self._path = run_folder / LIBRARIES.named()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other collectors from adding libraries; not one that is stuck."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # the folder is gone, or its file system has no locks
                descriptor = os.open(self._path, flags, 0o600)
                stack.callback(os.close, descriptor)
                lock_patiently(descriptor, self._path)
            yield

    def find(self, directory: Path) -> dict[LibraryKey, str]:
        """Return the libraries that are kept, each with the name of its archive in ``directory``."""
        found: dict[LibraryKey, str] = {}
        for archive, _, keys in self._read():
            if (directory / archive).is_file():  # nobody has removed it
                found.update(dict.fromkeys(keys, archive))
        return found

    def add(self, archive: Path, keys: Iterable[LibraryKey]) -> None:
        """Note that an archive has these libraries; if that cannot be done, others write them again."""
        line = json.dumps([archive.name, archive.stat().st_size, list(keys)]) + "\n"
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self._path, flags), "wb", buffering=0) as file:
                file.write(line.encode())

    def total_size(self) -> int:
        """Return the bytes that the archives of libraries take together."""
        return sum(size for _, size, _ in self._read())

    def _read(self) -> Iterator[tuple[str, int, list[LibraryKey]]]:
        try:
            lines = read_regular(self._path, _LIMIT).splitlines()
        except OSError:
            return
        for line in lines:
            with contextlib.suppress(ValueError):  # the disk was full
                archive, size, keys = json.loads(line)
                yield archive, size, [LibraryKey(*key) for key in keys]
