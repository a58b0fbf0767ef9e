"""The run's hidden folder in the artifact directory: where waiting processes and collectors meet.

Collectors are nobody's children, so each leaves its state in a file that it keeps locked while it lives. All
files of the folder are in ``files``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from pytest_gencore.errors import UnavailableError
from pytest_gencore.installed import has_extension
from pytest_gencore.machine.process import is_alive, start_ticks, why_no_descriptors
from pytest_gencore.run.files import (
    CHILDREN,
    CLAIM,
    CLOSED,
    FILES,
    OF_A_CAPTURE,
    QUOTA,
    REFUSED_FULL,
    REFUSED_LIMIT,
    STARTED,
    STATE,
    page_name,
    partial_name,
    remove_text,
    text_name,
)
from pytest_gencore.run.pinned import open_regular, pinned
from pytest_gencore.unpatched import posix

if sys.platform != "win32":
    import fcntl

_MARKS: Final = tuple(kind for kind in FILES if kind.is_mark)
_PREFIX: Final = ".gencore-"
_PORTABLE: Final = "portable"
"""Where ids of runs have the birth of their process otherwise."""
_KEPT: Final = (".fuse_hidden", ".nfs")
"""Names under which FUSE and NFS keep a removed file until its last close."""
_monotonic: Final = time.monotonic
"""Kept: a test may leave it patched."""
_CLOSE_SECONDS: Final = 1.0
_TICK_SECONDS: Final = 0.01


def new_run_id() -> str:
    """Return an id for a run that this process waits for; it tells collectors whether that still lives.

    It has the id of the process and when it began, in clock ticks since boot: setting the clock changes
    neither.

    Raises UnavailableError if ``/proc`` does not show this process, or if no process can be waited for.
    """
    if not has_extension():
        return f"{os.getpid()}-{_PORTABLE}-{os.urandom(6).hex()}"
    try:
        birth = start_ticks(os.getpid())
    except (OSError, ValueError, IndexError) as error:
        message = f"this process cannot be seen in /proc: {error}"
        raise UnavailableError(message, help_text="mount /proc") from error
    reason = why_no_descriptors()
    if reason:
        raise UnavailableError(reason, help_text="captures need Linux 5.3 or newer")
    return name_run(os.getpid(), birth)


def name_run(pid: int, birth: int) -> str:
    """Return an id for a run that a process waits for, which began at this clock tick."""
    return f"{pid}-{birth}-{os.urandom(6).hex()}"


def run_folder_name(run_id: str) -> str:
    """Return the name of the run's folder in the artifact directory."""
    return f"{_PREFIX}{run_id}"


def run_id_of(name: str) -> str:
    """Return the id of the run whose folder has this name."""
    return name.removeprefix(_PREFIX)


def birth_of_run(name: str) -> int:
    """Return when the run's process began, in clock ticks since boot; raises ValueError for another name."""
    _, birth, _ = name.removeprefix(_PREFIX).split("-")
    return int(birth)


def is_awaited(folder: Path, name: str = "") -> bool:
    """Tell whether somebody still waits for the captures of this run; a pinned folder has its name apart."""
    if (folder / CLOSED.named()).exists():
        return False
    try:
        pid, birth, _ = (name or folder.name).removeprefix(_PREFIX).split("-")
        if birth == _PORTABLE:
            return _is_there(int(pid))
        return is_alive(int(pid), int(birth))
    except (OSError, ValueError, IndexError):
        return False


def _is_there(pid: int) -> bool:
    """Tell whether there is a process of this id, where that is all that can be known."""
    if os.name == "nt":
        return True  # to ask could end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # that of another user
    return True


def is_locked(state_file: Path) -> bool:
    """Tell whether the collector of this state file is alive; without the extension none locks it."""
    if sys.platform == "win32":
        return False
    try:
        descriptor = open_regular(state_file)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def find_run_folders(directory: Path) -> list[Path]:
    """Return the folders of runs in an artifact directory; raises OSError if that cannot be read."""
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return []
    folders = [entry for entry in entries if entry.name.startswith(_PREFIX)]
    return sorted(Path(folder.path) for folder in folders if folder.is_dir(follow_symlinks=False))


def pid_of_run(name: str) -> int:
    """Return the process that waits for a run; raises ValueError for another name."""
    return int(name.removeprefix(_PREFIX).partition("-")[0])


def is_used(folder: Path, name: str = "") -> bool:
    """Tell whether a process waits for the run, runs its tests, or collects; names as for ``is_awaited``.

    Locks tell of processes that cannot be seen from here, as those of other containers.
    """
    locked = (path for kind in (STARTED, STATE) for path in folder.glob(kind.glob))
    return is_awaited(folder, name) or any(map(is_locked, locked))


def has_captures(folder: Path) -> bool:
    """Tell whether captures were made or refused: there is more than processes need that run tests."""
    with pinned(folder) as pinned_folder, contextlib.suppress(OSError):
        if pinned_folder is not None:
            kept = (STARTED, CHILDREN)
            names = posix.listdir(pinned_folder)
            return not all(any(kind.matches(name) for kind in kept) for name in names)
    return folder.is_symlink() or folder.exists()


def find_holder(state_file: Path) -> int:
    """Return the process that has locked a state file, 0 if that cannot be known; see proc(5), ``locks``."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        inode = state_file.lstat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1:2] == ["FLOCK"] and int(fields[5].rpartition(":")[2]) == inode:
                return int(fields[4])
    return 0


class Refusals(NamedTuple):
    """How many captures of a run were refused."""

    number: int
    """Because there are as many as there may be."""
    size: int
    """Because the archives are as large as they may be."""
    again: int
    """Because the test had been captured before, by a worker that died."""


def count_refusals(folder: Path) -> Refusals:
    """Count what processes that may be dead by now were refused."""

    def size_of(path: Path) -> int:
        try:
            return path.lstat().st_size
        except OSError:
            return 0

    return Refusals(
        number=size_of(folder / REFUSED_LIMIT.named()),
        size=size_of(folder / REFUSED_FULL.named()),
        again=sum(map(size_of, folder.glob(CLAIM.glob))),
    )


def remove_traces(folder: Path, name: str) -> None:
    """Remove what one capture used in the folder."""
    with contextlib.suppress(OSError):
        remove_tree(str(folder / name))
    for kind in OF_A_CAPTURE:
        with contextlib.suppress(OSError):
            (folder / kind.named(name)).unlink()


def remove_archive(directory: Path, result: str, name: str) -> None:
    """Remove a finished archive that nobody wants, and the text beside it."""
    with contextlib.suppress(OSError):
        (directory / result).unlink()
    remove_text(directory / text_name(name))
    remove_text(directory / page_name(name))


def remove_unfinished(directory: Path, folder: Path, name: str, *, keep_text: bool) -> None:
    """Remove what a collector was at that died; the text beside is whole, and may be all that there is."""
    with contextlib.suppress(OSError):
        (directory / partial_name(name)).unlink()
    if not keep_text:
        remove_text(directory / text_name(name))
    with contextlib.suppress(OSError):
        remove_tree(str(folder / name))


def release_place(folder: Path, slot: int, claim: str | None) -> None:
    """Let others capture in place of a capture that has no archive: its slot, 0 without, and its claim."""
    names = [QUOTA.named(slot)] if slot else []
    for name in [*names, *([claim] if claim else [])]:
        with contextlib.suppress(OSError):
            (folder / name).unlink()


def sweep(folder: Path, place: Path) -> None:
    """Remove the traces of all captures that no collector works on, and the folder if that was all.

    ``folder`` is pinned, ``place`` is where it was made.
    """
    for state in sorted(folder.glob(STATE.glob)):
        if not is_locked(state):
            remove_traces(folder, state.stem)
    _remove_if_idle(folder, place)


def _remove_if_idle(folder: Path, place: Path) -> None:
    """Remove the folder if no capture uses it any more."""
    with contextlib.suppress(OSError):
        entries = [path for path in folder.iterdir() if not path.name.startswith(_KEPT)]
        if not (folder / CLOSED.named()).exists() and any(map(STARTED.matches, (e.name for e in entries))):
            return  # its run has ended without a word: the next one tells it
        if all(any(mark.matches(entry.name) for mark in _MARKS) for entry in entries):
            for entry in entries:
                if CHILDREN.matches(entry.name):
                    with contextlib.suppress(OSError):
                        remove_tree(str(entry))
                else:
                    entry.unlink(missing_ok=True)
            remove_folder(place)  # of another folder that lies there now no more than an empty one


def remove_tree(path: str) -> None:
    """Remove a folder with all that is in it, or a file; links are not followed. Raises OSError."""
    try:
        posix.unlink(path)
    except (IsADirectoryError, PermissionError):  # as Linux, as POSIX has it
        for name in posix.listdir(path):
            remove_tree(f"{path}/{name}")
        posix.rmdir(path)


def remove_folder(folder: Path) -> None:
    """Remove an empty folder; raises OSError.

    What FUSE and NFS keep is waited for, for a second: ``close`` returns before a file system of FUSE hears
    of it, so that a file that is removed right after its last close is kept, too.
    """
    deadline = _monotonic() + _CLOSE_SECONDS
    while _monotonic() < deadline:
        names = posix.listdir(folder)
        if not names or not all(name.startswith(_KEPT) for name in names):
            break
        time.sleep(_TICK_SECONDS)
    posix.rmdir(folder)
