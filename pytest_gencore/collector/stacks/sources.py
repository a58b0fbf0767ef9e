"""The source text of the files that stacks name, for readers who do not have it."""

from __future__ import annotations

import errno
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.archive.names import member_of
from pytest_gencore.installed import is_installed, is_standard, plain_path
from pytest_gencore.sandbox.sources import SOURCE_LIMIT, decode_source, read_regular_file
from pytest_gencore.texts import Folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_gencore.collector.stacks.model import Frame, PythonThread

_PYTHON: Final = (".py", ".pyi", ".pyx", ".pxd", ".pxi")
_COMPILED: Final = (".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".inc", ".rs", ".f90")
_SUFFIXES: Final = frozenset((*_PYTHON, *_COMPILED))
_TRACEBACK_FILE = re.compile(
    r'^(?:  File "(.+?)", line \d+|((?:[A-Za-z]:[\\/])?\S[^\n:]*):\d+: )', re.MULTILINE
)
_NOTICES: Final = 20


class SourceLimits(NamedTuple):
    """How much source text an archive holds."""

    file_size: int = SOURCE_LIMIT
    """Bytes of one file; longer ones are left out."""
    total_size: int = 8 << 20
    """Bytes of all files."""
    files: int = 300
    only_project: bool = False
    """Nothing of libraries, nor of Python itself."""


OF_A_TEXT: Final = SourceLimits(total_size=64 << 10, only_project=True)
"""Beside texts that take some kilobytes."""


class Sources(NamedTuple):
    """What goes into the archive, and what does not."""

    files: list[tuple[str, bytes]]
    """Path below the archive's top folder, as ``archive.names.member_of`` makes it; contents."""
    notices: list[str]
    """What was left out and why, for the manifest."""


def gather_sources(
    threads: Iterable[PythonThread],
    rootdir: str,
    limits: SourceLimits | None = None,
    *,
    also: Iterable[str] = (),
) -> Sources:
    """Read the files that stacks name and those of ``also``: the project's first, Python's own last.

    ``rootdir`` is pytest's, absolute; relative names are looked up in it. Names that are no files, such as
    ``<string>``, are passed over. Never raises, and never waits for a device or a FIFO.
    """
    limits = limits or SourceLimits()
    files: list[tuple[str, bytes]] = []
    notices: list[str] = []
    total = 0
    for path in _ordered_paths(threads, rootdir, also):
        if limits.only_project and _rank(path, rootdir) > 1:
            continue
        data, reason = read_source(path, limits.file_size)
        if data is not None and len(files) >= limits.files:
            reason = f"more than {limits.files} files"
        elif data is not None and total + len(data) > limits.total_size:
            reason = f"more than {limits.total_size} bytes in all"
        elif data is not None:
            total += len(data)
            files.append((member_of(path), data))
        if reason:
            notices.append(f"source {path} is left out: {reason}")
    if len(notices) > _NOTICES:
        notices[_NOTICES:] = [f"more sources left out: {len(notices) - _NOTICES}"]
    return Sources(files, notices)


def read_source(path: str, limit: int) -> tuple[bytes | None, str]:
    """Return a regular file's contents, or None and the reason; no reason if there is no such file."""
    try:
        data = read_regular_file(path, limit)
    except ValueError:
        return None, ""  # a name that no file can have
    except OSError as error:
        return None, "" if error.errno in (errno.ENOENT, errno.ENOTDIR) else f"{error.strerror}"
    return (None, "no text") if b"\0" in data else (data, "")


def add_source_lines(threads: Iterable[PythonThread], rootdir: str = "") -> list[PythonThread]:
    """Give every Python frame without a source line the one that its file has now."""
    files: dict[str, list[str]] = {}

    def complete(frame: Frame) -> Frame:
        path = absolute_path(frame.file, rootdir)
        if frame.native or frame.source or frame.line is None or path is None:
            return frame
        if path not in files:
            files[path] = _read_lines(path)
        is_there = 0 < frame.line <= len(files[path])
        return frame._replace(source=files[path][frame.line - 1].strip()) if is_there else frame

    return [thread._replace(frames=tuple(map(complete, thread.frames))) for thread in threads]


def absolute_path(name: str, rootdir: str) -> str | None:
    """Return a normal absolute path, None for what is no file name or would be outside of the archive."""
    if not name or name.startswith("<") or "\0" in name:
        return None
    path = os.path.normpath(os.path.join(rootdir, name))  # noqa: PTH118 - co_filename is a str
    drive, path = map(plain_path, os.path.splitdrive(path))
    return f"{drive}/{path.lstrip('/')}" if path.startswith("/") else None


def find_traceback_files(text: str) -> list[str]:
    """Return the files that a failure's text names, as pytest or Python writes them; relative ones too."""
    return list(dict.fromkeys(match[1] or match[2] for match in _TRACEBACK_FILE.finditer(text)))


def _read_lines(path: str) -> list[str]:
    data, _ = read_source(path, SourceLimits().file_size)
    return [] if data is None else decode_source(data).splitlines()


def _ordered_paths(threads: Iterable[PythonThread], rootdir: str, also: Iterable[str]) -> Sequence[str]:
    paths = (absolute_path(name, rootdir) for name in [*_names(threads), *also])
    found = dict.fromkeys(
        path for path in paths if path and PurePosixPath(path).suffix in (*_PYTHON, *_COMPILED)
    )
    return sorted(found, key=lambda path: _rank(path, rootdir))


def _names(threads: Iterable[PythonThread]) -> Iterator[str]:
    for thread in threads:
        for frame in reversed(thread.frames):
            yield frame.file


def _rank(path: str, rootdir: str) -> int:
    if is_installed(path):
        return 2
    if is_standard(path):
        return 3
    return 0 if Folders(rootdir).has(path) else 1
