"""The files of the run's folder that the captured process makes: its name, its claim, its slot.

The same as csrc/runfiles.c makes, under the same names.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Final, NamedTuple

from pytest_gencore.portable.kept import format_time, now, sleep, split_utc, wall_seconds
from pytest_gencore.protocol import Stage
from pytest_gencore.run.files import CLAIM, FULL, QUOTA, REFUSED_FULL, REFUSED_LIMIT, STATE, partial_name
from pytest_gencore.run.pinned import why_not_private
from pytest_gencore.run.state import STATE_SIZE

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_open, _write, _close, _unlink = os.open, os.write, os.close, os.unlink
_mkdir, _lstat, _getpid, _join = os.mkdir, os.lstat, os.getpid, os.path.join
"""Kept: tests patch the functions of ``os``."""
_NO_STATE: Final = b" " * STATE_SIZE
"""Says nothing yet, and has room for what is said when the disk is full."""
_TICK_SECONDS: Final = 0.05
_FNV_OFFSET: Final = 0x6C62272E07BB014262B821756295C58D
_FNV_PRIME: Final = (1 << 88) + 0x13B
_MASK: Final = (1 << 128) - 1


class NoPlaceError(Exception):
    """The capture is refused, or has no place."""

    def __init__(self, stage: Stage, number: int | None = 0) -> None:
        super().__init__(stage.name)
        self.stage = stage
        self.number = number or 0


class Place(NamedTuple):
    """What one capture has in the run's folder and the artifact directory."""

    name: str
    """Of the archive, without ``.tar.gz``."""
    slot: int
    claim: str
    state_file: str
    made: tuple[str, ...]
    """Paths, the last made last."""

    def give_back(self) -> None:
        """Remove it all."""
        _remove(self.made)


def take(directory: str, run_name: str, max_captures: int, claim: str | None, test: str) -> Place:
    """Make the files of a capture; raises NoPlaceError."""
    folder = _join(directory, run_name)
    _make_directories(directory, folder)
    made: list[str] = []
    try:
        claim_name = ""
        if claim is not None:
            claim_name = CLAIM.named(f"{_hash(claim + test):032x}")
            if not _mark(_join(folder, claim_name)):
                _count(_join(folder, claim_name))
                raise NoPlaceError(Stage.CLAIMED)
            made.append(_join(folder, claim_name))
        slot = _take_slot(folder, max_captures, made)
        name = _take_name(directory, folder, made)
    except NoPlaceError:
        _remove(made)
        raise
    except OSError as error:
        _remove(made)
        raise NoPlaceError(Stage.NAME, error.errno) from error
    return Place(name, slot, claim_name, _join(folder, STATE.named(name)), tuple(made))


def await_end(directory: str, run_name: str, name: str, seconds: float) -> None:
    """Wait until a capture has ended, at most so many seconds."""
    state = Path(directory, run_name, STATE.named(name))
    end = now() + seconds
    while name and now() < end:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            if json.loads(state.read_bytes())["state"] in ("done", "failed", "dropped"):
                return
        if not state.exists():
            return
        sleep(_TICK_SECONDS)


def _make_directories(directory: str, folder: str) -> None:
    try:
        _make_parents(directory)
    except OSError as error:
        raise NoPlaceError(Stage.DIRECTORY, error.errno) from error
    try:
        _mkdir(folder, 0o700)
    except FileExistsError:
        reason = why_not_private(_lstat(folder))
        if reason:
            raise NoPlaceError(Stage.OWNER if "belongs" in reason else Stage.MODE) from None
    except OSError as error:
        raise NoPlaceError(Stage.RUN_DIRECTORY, error.errno) from error


def _make_parents(path: str) -> None:
    try:
        _mkdir(path)
    except FileExistsError:
        pass
    except FileNotFoundError:
        parent = os.path.dirname(path)  # noqa: PTH120 - no method of an object that a test may have patched
        if parent == path:
            raise
        _make_parents(parent)
        with contextlib.suppress(FileExistsError):
            _mkdir(path)


def _take_slot(folder: str, limit: int, made: list[str]) -> int:
    with contextlib.suppress(FileNotFoundError):
        _lstat(_join(folder, FULL.named()))
        _count(_join(folder, REFUSED_FULL.named()))
        raise NoPlaceError(Stage.FULL)
    for slot in range(1, limit + 1):
        path = _join(folder, QUOTA.named(slot))
        if _mark(path):
            made.append(path)
            return slot
    if limit >= 0:
        _count(_join(folder, REFUSED_LIMIT.named()))
        raise NoPlaceError(Stage.LIMIT)
    return 0


def _take_name(directory: str, folder: str, made: list[str]) -> str:
    when = format_time("%Y%m%d.%H%M%S", split_utc(wall_seconds()))
    for sequence in range(1, 1000):
        name = f"core_{when}.{_getpid()}.{sequence:03d}"
        partial = _join(directory, partial_name(name))
        with contextlib.suppress(FileNotFoundError):
            _lstat(_join(directory, f"{name}.tar.gz"))
            continue
        if _mark(partial):
            made.append(partial)
            state = _join(folder, STATE.named(name))
            made.append(state)
            _mark(state, _NO_STATE)
            return name
    raise NoPlaceError(Stage.NAME, errno.EEXIST)


def _mark(path: str, data: bytes = b"") -> bool:
    """Make a file of this user alone; tell whether there was none."""
    try:
        descriptor = _open(path, _FLAGS | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    try:
        while data:
            data = data[_write(descriptor, data) :]
    finally:
        _close(descriptor)
    return True


def _count(path: str) -> None:
    """Add a byte to a file: one more refusal."""
    with contextlib.suppress(OSError):
        descriptor = _open(path, _FLAGS | os.O_APPEND, 0o600)
        try:
            _write(descriptor, b".")
        finally:
            _close(descriptor)


def _remove(paths: tuple[str, ...] | list[str]) -> None:
    for path in reversed(paths):
        with contextlib.suppress(OSError):
            _unlink(path)


def _hash(text: str) -> int:
    """Return FNV-1a with 128 bits, as csrc/claims.c has it."""
    value = _FNV_OFFSET
    for byte in text.encode(errors="surrogateescape"):
        value = ((value ^ byte) * _FNV_PRIME) & _MASK
    return value
