"""The program that uploads the files of one capture; a collector runs it in the run's own Python.

Its arguments are for how many seconds without progress to try, the URL of a folder, and files. On standard
output it writes how many bytes are there, a line each time; on standard error, in one line, what went wrong.
Its status is 1 if the store has failed, EX_NOINPUT of sysexits.h if a file cannot be read.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import secrets
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.store.opening import describe_error, is_final, open_store
from pytest_gencore.store.url import join, kind_of
from pytest_gencore.unpatched import NO_LINK, NO_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable

_PART: Final = 5 << 20
"""Bytes of a part, the least that S3 takes: the collector waits only so long for each."""
_PARTS: Final = 9_000
"""At most so many: S3 takes 10,000, see "Amazon S3 multipart upload limits"."""
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 4.0
_BEGINNINGS: Final = 5
"""How often a file is begun at most where the store has taken some of it, and then fails."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a folder says that has no room for a file: as final as a refusal."""
_PRIVATE: Final = 0o077


class SourceError(Exception):
    """A file cannot be read: nothing of the store."""


class Upload:
    """Copies files into one folder of a store: each appears there when it is whole, or not at all."""

    def __init__(self, folder: str, seconds: float) -> None:
        """``folder`` is a URL; after ``seconds`` without progress errors are raised."""
        self._files, self._folder = open_store(folder)
        self._has_names = kind_of(folder) == "file"
        """Whether a file is there as soon as its first byte is: it gets its name at the end."""
        self._seconds = seconds
        self._done = 0
        self._most = 0
        """The most that was ever done: what is sent again is no progress."""
        self._progress_at = time.monotonic()
        self._pause = _PAUSE_SECONDS
        self._tries = 0
        """How often something was tried again."""

    def put(self, source: Path) -> None:
        """Upload a file, whatever is there under its name; raises SourceError and what fsspec raises."""
        with os.fdopen(_open(source), "rb", buffering=0) as file:
            before, begun = self._done, 0
            while True:
                tries = self._tries
                try:
                    self._put(file, join(self._folder, source.name))
                except Exception as error:
                    # A store that was restarted has forgotten the parts, also one that it was just taking.
                    has_seen_it = self._done != before or self._tries != tries
                    begun += has_seen_it
                    is_over = _stays(error) or (is_final(error) and not has_seen_it)
                    if is_over or begun == _BEGINNINGS or not self._may_try_again():
                        raise
                    self._done = before
                else:
                    return

    def _put(self, file: Any, target: str) -> None:
        size = os.fstat(file.fileno()).st_size
        part = max(_PART, math.ceil(size / _PARTS))
        path = target
        if self._has_names:
            self._files.makedirs(self._folder, exist_ok=True)
            folder, slash, name = target.rpartition("/")
            mark = secrets.token_hex(8)  # another program may upload the same libraries
            path = f"{folder}{slash}.{name}.{mark}.partial"
        file.seek(0)
        copy = self._files.open(path, "wb", block_size=part)
        try:
            while piece := _read(file, part):
                self._write(copy, piece)
                if len(piece) == part:  # less is only kept in memory until the end
                    self._advance(part)
            copy.close()
            if path != target:
                self._files.mv(path, target)
        except BaseException:
            self._discard(copy, path)
            raise
        self._files.invalidate_cache()
        found = self._files.info(target)["size"]
        if found != size:
            message = f"the store has {found} bytes of {size}"
            raise OSError(message)
        self._advance(size % part)

    def _discard(self, copy: Any, path: str) -> None:
        """Give up a file that was not written to its end."""
        with contextlib.suppress(Exception):
            copy.discard()
        if _is_buffered(copy):
            copy.closed, copy.buffer = True, None  # its __del__ would upload the rest, and complete it
            return
        with contextlib.suppress(Exception):  # discarding has not closed it
            copy.close()
        if self._has_names:
            with contextlib.suppress(Exception):
                self._files.rm_file(path)

    def _write(self, copy: Any, piece: bytes) -> None:
        """Write a part; where that fails, go on with this part: those before are there."""
        send = functools.partial(copy.write, piece)
        while not self._is_sent(send, copy):
            send = copy.flush

    def _is_sent(self, send: Callable[[], object], copy: Any) -> bool:
        try:
            send()
        except Exception as error:
            if _stays(error) or is_final(error) or not _can_resume(copy) or not self._may_try_again():
                raise
            return False
        return True

    def _advance(self, count: int) -> None:
        """Say that so many bytes more are there."""
        self._done += count
        if self._done > self._most:
            self._most, self._progress_at, self._pause = self._done, time.monotonic(), _PAUSE_SECONDS
        try:
            sys.stdout.write(f"{self._done}\n")
            sys.stdout.flush()
        except OSError:  # the collector is gone
            sys.exit(1)

    def _may_try_again(self) -> bool:
        """Wait a moment; False if nothing has gone on for too long."""
        if time.monotonic() + self._pause - self._progress_at > self._seconds:
            return False
        self._tries += 1
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        return True


def main() -> None:
    """Upload, and exit with status 1 if that was not possible."""
    seconds, folder, *names = sys.argv[1:]
    os.umask(_PRIVATE)
    try:
        upload = Upload(folder, float(seconds))
        for name in names:
            upload.put(Path(name))
    except Exception as error:  # noqa: BLE001 - whatever a library of a store raises
        sys.stderr.write(f"{describe_error(error)}\n")
        sys.stderr.flush()
        status = os.EX_NOINPUT if isinstance(error, SourceError) else 1
        os._exit(status)  # not after a thread that waits for the store
    os._exit(0)


def _stays(error: Exception) -> bool:
    """Whether it is an error that no restart of a store ends."""
    return isinstance(error, SourceError) or (isinstance(error, OSError) and error.errno in _FULL)


def _can_resume(copy: Any) -> bool:
    """Whether a file still has the part that could not be written."""
    return _is_buffered(copy) and not copy.closed and copy.buffer is not None


def _is_buffered(copy: Any) -> bool:
    """Whether a file is fsspec's own, of a store that takes parts."""
    from fsspec.spec import AbstractBufferedFile

    return isinstance(copy, AbstractBufferedFile)


def _open(path: Path) -> int:
    """Open a regular file, never through a link; raises SourceError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise SourceError(message) from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    message = f"not a regular file: {path}"
    raise SourceError(message)


def _read(file: Any, size: int) -> bytes:
    try:
        return bytes(file.read(size))
    except OSError as error:
        message = f"a file that is uploaded cannot be read: {error.strerror}"
        raise SourceError(message) from error


if __name__ == "__main__":
    main()
