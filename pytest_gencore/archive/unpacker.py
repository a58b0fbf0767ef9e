"""Unpack an archive into a private folder: all of it or nothing, and nothing elsewhere.

The folder is made under a hidden name and renamed when it is whole, so that a folder with the archive's name
is never half an archive. In it there are only files and folders that this module has made, and no symbolic
links, so that no name of a member can lead out of it.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.archive.names import MANIFEST_NAME, inner_name
from pytest_gencore.archive.opening import open_archive
from pytest_gencore.errors import ArchiveError
from pytest_gencore.unpatched import NO_LINK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_gencore.archive.manifest import Manifest
    from pytest_gencore.archive.opened import OpenArchive
    from pytest_gencore.archive.opening import ArchivePlace
    from pytest_gencore.archive.tar_stream import Member

_PIECE: Final = 256 << 10
_OTHER_FILE_LIMIT: Final = 64 << 20
_OTHER_FILES_LIMIT: Final = 256 << 20
"""Bytes of the files that the manifest does not list: texts, scripts, sources."""
_SPACE_RESERVE: Final = 16 << 20
_TIME_LIMIT: Final = 1 << 33
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})


def needed_space(manifest: Manifest) -> int:
    """Return how many bytes the files that the manifest lists take on disk."""
    libraries = sum(library.size for library in manifest.libraries if library.included)
    core = manifest.core
    return (min(core.data_size, core.size) if core else 0) + libraries


def unpack(
    archive: ArchivePlace,
    directory: Path,
    progress: Callable[[int, int], None] | None = None,
    *,
    keys: Sequence[Any] = (),
) -> Path:
    """Unpack into the folder ``directory / NAME``, which must not exist; return it.

    ``directory`` is made if it is missing, with mode 0700; ``keys`` as for ``open_archive``. Files get
    mode 0600, folders 0700. Raises ArchiveError, also if the archive does not fit on the disk; OSError if the
    archive cannot be opened.
    """
    with open_archive(archive, keys) as opened:
        target = directory / opened.manifest.name
        work: Path | None = None
        try:
            _make_folder(directory)
            if os.path.lexists(target):
                message = f"{target} exists already"
                raise ArchiveError(message, help_text="remove it or choose another directory")
            check_space(directory, needed_space(opened.manifest))
            work = Path(tempfile.mkdtemp(prefix=f".{opened.manifest.name}.unpacking-", dir=directory))
            _Unpacker(opened, work, progress).run()
            work.rename(target)
        except BaseException as error:
            if work is not None:
                shutil.rmtree(work, ignore_errors=True)
            if isinstance(error, OSError):
                message = f"cannot unpack: {error.strerror}: {error.filename or directory}"
                raise ArchiveError(message) from error
            raise
    return target


class _Unpacker:
    """One archive on its way to the disk."""

    def __init__(
        self, opened: OpenArchive, folder: Path, progress: Callable[[int, int], None] | None
    ) -> None:
        self._opened = opened
        self._folder = folder
        self._progress = progress
        manifest = opened.manifest
        self._total = needed_space(manifest)
        self._done = 0
        self._others = 0
        self._files: dict[str, int] = {}
        """Names of the regular members so far and what they take on disk."""
        self._names: set[str] = set()
        self._expected = {
            library.path.lstrip("/"): (library.size, library.size)
            for library in manifest.libraries
            if library.included
        }
        if manifest.core is not None:
            self._expected["core"] = (manifest.core.size, manifest.core.data_size)

    def run(self) -> None:
        """Write all members; raises ArchiveError, OSError."""
        self._write_bytes(MANIFEST_NAME, self._opened.manifest_text)
        for member in self._opened.members:
            name = self._opened.inner_name(member)
            if not name and member.kind == "directory":
                continue
            if name in self._names or not name:
                message = f"the archive holds {member.name!r} twice"
                raise ArchiveError(message)
            self._names.add(name)
            if member.kind == "directory":
                _make_folder(self._folder / name)
            elif member.kind == "link":
                self._link(name, member)
            else:
                self._check_size(name, member)
                self._write(name, member)
        missing = sorted(self._expected.keys() - self._files.keys())
        if missing:
            message = f"the archive lacks {missing[0]!r}, which its manifest lists"
            raise ArchiveError(message)

    def _check_size(self, name: str, member: Member) -> None:
        if name in self._expected:
            if (member.size, member.stored_size) != self._expected[name]:
                message = f"{name!r} does not have the size that the manifest gives"
                raise ArchiveError(message)
            return
        self._others += member.size
        if member.size > _OTHER_FILE_LIMIT or self._others > _OTHER_FILES_LIMIT:
            message = f"{name!r} is too large for a file that the manifest does not list"
            raise ArchiveError(message)

    def _create(self, name: str) -> int:
        path = self._folder / name
        _make_folder(path.parent)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o600)

    def _write_bytes(self, name: str, data: bytes) -> None:
        self._names.add(name)
        self._files[name] = len(data)
        with os.fdopen(self._create(name), "wb") as file:
            file.write(data)

    def _write(self, name: str, member: Member) -> None:
        with os.fdopen(self._create(name), "wb", buffering=0) as file:
            descriptor = file.fileno()
            if member.extents is None:
                self._write_extent(descriptor, 0, member.size)
            else:
                numbers = iter(member.extents)
                for offset, length in zip(numbers, numbers, strict=True):
                    self._write_extent(descriptor, offset, length)
            os.ftruncate(descriptor, member.size)
        # gdb complains of executables that are newer than the core
        os.utime(self._folder / name, (min(member.mtime, _TIME_LIMIT),) * 2)
        self._files[name] = member.stored_size

    def _write_extent(self, descriptor: int, offset: int, length: int) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)
        while length:
            data = self._opened.tar.read(min(length, _PIECE))
            length -= len(data)
            self._done += len(data)
            while data:
                data = data[os.write(descriptor, data) :]
            if self._progress is not None:
                self._progress(self._done, self._total)

    def _link(self, name: str, member: Member) -> None:
        """Make a hard link to an earlier file; a copy where the file system has no links."""
        target = inner_name(self._opened.manifest.name, member.link_target)
        if target not in self._files:
            message = f"{member.name!r} is a link to {member.link_target!r}, which is no earlier file"
            raise ArchiveError(message)
        path = self._folder / name
        _make_folder(path.parent)
        try:
            os.link(self._folder / target, path, follow_symlinks=False)
        except (OSError, NotImplementedError) as error:  # the latter on Windows
            if isinstance(error, OSError) and error.errno not in _NO_HARD_LINKS:
                raise
            check_space(self._folder, self._files[target])
            with (self._folder / target).open("rb") as source, os.fdopen(self._create(name), "wb") as copy:
                shutil.copyfileobj(source, copy)


def _make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, all for this user only."""
    if not path.is_dir():
        if path != path.parent:
            _make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def check_space(directory: Path, needed: int) -> None:
    """Raise ArchiveError if the disk of ``directory`` has no room for so many bytes, and some more."""
    free = shutil.disk_usage(directory).free
    if needed + _SPACE_RESERVE > free:
        message = f"{directory} has {free >> 20} MiB free; {needed + _SPACE_RESERVE >> 20} MiB are needed"
        raise ArchiveError(message, help_text="choose another directory")
