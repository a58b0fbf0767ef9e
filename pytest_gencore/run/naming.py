"""Give a finished file its name in the artifact directory, where others may be able to change things."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path


def give_name(file: int, partial: Path, result: Path) -> None:
    """Give the finished file its name: this very file, and not what others may have put under ``partial``.

    Never over an existing one. Raises ArchiveError and OSError.
    """
    try:
        _link_or_rename(file, partial, result)
    except FileExistsError as error:
        message = f"{result} exists already"
        raise ArchiveError(message) from error
    except FileNotFoundError as error:
        raise ArchiveError(describe_gone(partial)) from error
    with contextlib.suppress(OSError):
        if _is_named(file, partial):
            partial.unlink()


def describe_gone(partial: Path) -> str:
    """Return what is known of a file whose name is not there any more."""
    if not partial.parent.exists():
        return f"the directory is gone: {partial.parent}"
    return f"{partial} is gone: something else has removed or renamed it"


def _link_or_rename(file: int, partial: Path, result: Path) -> None:
    try:
        _link(file, result)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a file system without hard links
        _rename(file, partial, result)


def _link(file: int, result: Path) -> None:
    directory = os.open(result.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:  # with a descriptor of the directory: else Python calls link(2), which would link the link in /proc
        os.link(f"/proc/self/fd/{file}", result.name, dst_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)


def _rename(file: int, partial: Path, result: Path) -> None:
    """Rename over an empty file that nobody else has made; raises FileExistsError and others."""
    is_ours = _is_named(file, partial)
    if is_ours:
        os.close(os.open(result, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            partial.rename(result)
            is_ours = _is_named(file, result)
        except OSError:
            result.unlink()
            raise
        if not is_ours:
            result.unlink()
    if not is_ours:
        message = f"{partial} is not the file that was written: somebody has replaced it"
        raise ArchiveError(message)


def _is_named(file: int, path: Path) -> bool:
    """Whether this very file has this name."""
    return os.path.samestat(os.fstat(file), path.lstat())
