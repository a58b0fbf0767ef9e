"""Archives in a store, read in ranges: the manifest is in the first one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_gencore.errors import StoreError
from pytest_gencore.store.opening import as_store_error, describe_error, is_final, is_timeout, open_store
from pytest_gencore.store.url import join, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FIRST: Final = 16 << 10
"""Bytes of the first range: manifest and texts of a usual archive."""
_LONGEST: Final = 8 << 20


class File(NamedTuple):
    """A file in a store, as it lists it."""

    url: str
    size: int
    """Bytes."""


class Closed(NamedTuple):
    """A folder in a store that cannot be looked into."""

    url: str
    reason: str


class Listing(NamedTuple):
    """What is below a URL."""

    files: list[File]
    closed: list[Closed]
    """What else there is in these is not known."""


class Store:
    """A store, or a folder of one, opened; all methods raise StoreError."""

    def __init__(self, url: str) -> None:
        self._url = url
        with self._errors():
            self._files, self._root = open_store(url)
        if kind_of(url) == "s3":  # s3fs tries five times in each of two nested loops, a minute and more each
            self._files.retries = 1

    def list_files(self) -> Listing:
        """Return all files below, in the order of their URLs; names are as they are there, and untrusted.

        What is no regular file is left out, as in an artifact directory.
        """
        closed: list[Closed] = []
        with self._errors():
            if kind_of(self._url) == "file":
                found = [*self._walk(closed)]
            else:
                found = [*self._files.find(self._root, detail=True).values()]
        if len(found) == 1 and found[0]["name"] == self._root:
            raise StoreError("it is a file, not a folder")
        files = [File(self._url_of(entry["name"]), entry["size"]) for entry in found if _is_regular(entry)]
        return Listing(sorted(files), sorted(closed))

    def _walk(self, closed: list[Closed]) -> Iterator[Mapping[str, Any]]:
        """Yield the entries of all folders; fsspec's ``find`` says nothing of those that it may not read."""
        folders = [self._root]
        while folders:
            folder = folders.pop()
            try:
                entries = self._files.ls(folder, detail=True)
            except OSError as error:
                if folder == self._root:
                    raise
                if not isinstance(error, FileNotFoundError):  # one that was removed meanwhile
                    closed.append(Closed(self._url_of(folder), describe_error(error)))
                continue
            folders += [entry["name"] for entry in entries if entry["type"] == "directory"]
            yield from entries

    def _url_of(self, path: str) -> str:
        return join(self._url, path[len(self._root) :].lstrip("/"))

    def find_file(self) -> File:
        """Return the file that the URL is of."""
        with self._errors():
            entry = self._files.info(self._root)
        if entry["type"] == "directory":
            raise StoreError("it is a folder; list its archives: gencore list URL")
        if not _is_regular(entry):
            raise StoreError("not a regular file")
        return File(self._url, int(entry["size"]))

    def read_range(self, url: str, start: int, end: int) -> bytes:
        """Return the bytes of a file of the store from ``start`` to before ``end``.

        They are asked for once more if the connection is cut, but not if there is no answer.
        """
        path = self._root + url.removeprefix(self._url)
        with self._errors():
            try:
                return bytes(self._files.cat_file(path, start=start, end=end))
            except Exception as error:
                if is_final(error) or is_timeout(error):
                    raise
            return bytes(self._files.cat_file(path, start=start, end=end))

    def read_heads(self, files: Sequence[File]) -> list[StoredArchive]:
        """Return some of the files with their first ranges, which are read at the same time.

        One that cannot be read is asked for again, and says why then; one that was not answered says so.
        """
        paths = [self._root + file.url.removeprefix(self._url) for file in files]
        ends = [min(FIRST, file.size) for file in files]
        with self._errors():
            heads = self._files.cat_ranges(paths, [0] * len(paths), ends, on_error="return")
        return [StoredArchive(self, file, self._keep(head)) for file, head in zip(files, heads, strict=True)]

    def _keep(self, head: bytes | Exception) -> bytes | StoreError | None:
        """Return what is known of a first range; None if it is asked for again."""
        if isinstance(head, bytes):
            return head
        return as_store_error(self._url, head) if is_timeout(head) else None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise as_store_error(self._url, error) from error


def _is_regular(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of fsspec is of a regular file: to open another one can wait for ever."""
    return bool(entry["type"] == "file" and not entry.get("islink", False))  # only folders have links


class StoredArchive:
    """One file of a store, as ``archive.opening`` reads it."""

    def __init__(self, store: Store, file: File, head: bytes | StoreError | None = None) -> None:
        """``head`` is its first range, if that is known, or why it cannot be read."""
        self._store = store
        self._file = file
        self._head = head

    def __str__(self) -> str:
        return self._file.url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self._file.url.rpartition("/")[2]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._file.size

    @contextlib.contextmanager
    def open(self) -> Iterator[Reader]:
        """Give what reads it from its beginning."""
        yield Reader(self)

    def read_range(self, start: int, length: int) -> bytes:
        """Return so many bytes, less at the end; the first range is kept. Raises StoreError."""
        end = min(start + length, self._file.size)
        if start >= end:
            return b""
        if isinstance(self._head, StoreError):
            raise self._head
        if start == 0 and self._head is not None:
            return self._head
        data = self._store.read_range(self._file.url, start, end)
        if start == 0:
            self._head = data
        return data


class Reader:
    """Reads a file in ranges that get longer: who reads much wants more of it."""

    def __init__(self, archive: StoredArchive) -> None:
        self._archive = archive
        self._data = memoryview(b"")
        self._at = 0
        self._length = FIRST

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end. Raises StoreError."""
        if not self._data:
            data: Any = self._archive.read_range(self._at, self._length)
            self._at += len(data)
            self._length = min(2 * self._length, _LONGEST)
            self._data = memoryview(data)
        piece, self._data = self._data[:size], self._data[size:]
        return bytes(piece)


def open_stored(url: str) -> StoredArchive:
    """Find one archive by its URL; raises StoreError."""
    store = Store(url)
    return StoredArchive(store, store.find_file())
