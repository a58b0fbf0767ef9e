"""Cores on macOS: a copy of the process aborts, and the kernel writes its core, as for any crash.

Compiled for macOS and never run there; all but ``read_settings`` was run on Linux. What the kernel does is
told by its sources (xnu: ``coredump`` in bsd/kern/kern_core.c, ``proc_core_name`` in bsd/kern/kern_proc.c).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import signal
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.errors import UnavailableError
from pytest_gencore.portable.kept import now
from pytest_gencore.systems import SYSTEMS, find_library
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from pathlib import Path

_open, _close, _read, _write, _unlink = os.open, os.close, os.read, os.write, os.unlink
_rename, _lstat, _access, _kill, _statvfs = os.rename, os.lstat, os.access, os.kill, os.statvfs
_geteuid, _getuid, _dirname, _getrlimit = os.geteuid, os.getuid, os.path.dirname, resource.getrlimit
"""Kept: tests patch these modules."""
_SLICE_MS: Final = 100
"""In which signals are handled by Python while the core is awaited."""
_END_MS: Final = 1000
"""In which a copy that was given up is gone, unless its kernel still writes."""
_LONGEST_PATH: Final = 255
_PIECE: Final = 1 << 20
_TOO_LATE: Final = "the core was not written in time"
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LIBRARY: Final = find_library(SYSTEMS["darwin"])
_holding, _waiting = ctypes.PyDLL(_LIBRARY), ctypes.CDLL(_LIBRARY)
"""The same library: called with the GIL, so that no thread of Python changes what is copied; and without."""


class Settings(NamedTuple):
    """What the kernel was told of cores."""

    pattern: str
    """Where they are written, with ``%N``, ``%P`` and ``%U`` for the process's name, id and user."""
    are_on: bool


def read_settings() -> Settings:
    """Ask macOS; raises OSError."""
    pattern = ctypes.create_string_buffer(1024)
    number = ctypes.c_int()
    libc = ctypes.CDLL(None, use_errno=True)
    for name, value in ((b"kern.corefile", pattern), (b"kern.coredump", number)):
        size = ctypes.c_size_t(ctypes.sizeof(value))
        if libc.sysctlbyname(name, ctypes.byref(value), ctypes.byref(size), None, 0):
            number_of = ctypes.get_errno()
            raise OSError(number_of, os.strerror(number_of), name.decode())
    return Settings(os.fsdecode(pattern.value), bool(number.value))


def write_core(folder: Path, stop_at: float) -> Path:
    """Write a core of this process below the folder and return its path; see ``cores``."""
    before, after = _check(read_settings())
    left_ms = max(int((stop_at - now()) * 1000), 0)
    channel = ctypes.c_int(-1)
    try:  # a handler of a signal may raise wherever Python runs
        error = _holding.gencore_abort_copy(
            os.fsencode(before), os.fsencode(after), left_ms, ctypes.byref(channel)
        )
        pid = -error if error else _read_number(channel.value, max(stop_at, now() + _END_MS / 1000))
        if pid < 0:
            message = f"the process cannot be copied: {os.strerror(-pid)}"
            raise UnavailableError(message)
        path = f"{before}{pid}{after}"
        _judge(_read_number(channel.value, stop_at), path)
        _take(path, f"{folder}/core", stop_at)
    finally:
        if channel.value >= 0:
            _waiting.gencore_end_copy(channel.value, _END_MS)
    return folder / "core"


def _check(settings: Settings) -> tuple[str, str]:
    """Return the path of a core around its process id; raises UnavailableError if none can be made so."""
    if not settings.are_on:
        raise UnavailableError("the system writes no cores", help_text="sudo sysctl kern.coredump=1")
    parts = re.split("%(.?)", settings.pattern)
    values = {"P": "\0", "U": str(_getuid()), "%": "%"}
    path = "".join(values.get(part, "\0\0") if at % 2 else part for at, part in enumerate(parts))
    before, _, after = path.partition("\0")
    if not before.startswith("/") or path.count("\0") != 1 or "/" in after or len(path) > _LONGEST_PATH:
        message = f"cores are not looked for where kern.corefile says, {settings.pattern}"
        raise UnavailableError(message, help_text="sudo sysctl kern.corefile=/cores/core.%P")
    if not _getrlimit(resource.RLIMIT_CORE)[1]:
        raise UnavailableError("the hard limit on the size of cores is 0", help_text="see ulimit -H -c")
    folder = _dirname(before)
    if not _access(folder, os.W_OK | os.X_OK):
        message = f"cores cannot be written into {folder}"
        raise UnavailableError(message, help_text=f"sudo chmod 1777 {folder}")
    return before, after


def _read_number(descriptor: int, stop_at: float) -> int:
    """Return the next number that the copies tell; raises UnavailableError."""
    number, error = ctypes.c_int(), errno.EAGAIN
    while error == errno.EAGAIN:
        left_ms = int((stop_at - now()) * 1000)
        if left_ms < 0:
            raise UnavailableError(_TOO_LATE)
        error = _waiting.gencore_read_number(descriptor, min(left_ms, _SLICE_MS), ctypes.byref(number))
    if error:
        message = f"it is not known what became of the copy of the process: {os.strerror(error)}"
        raise UnavailableError(message)
    return number.value


def _judge(status: int, path: str) -> None:
    """Raise UnavailableError if a copy that has ended so left no whole core."""
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGABRT:
        message = f"the copy of the process did not end of SIGABRT: wait status {status:#x}"
        raise UnavailableError(message)
    if not os.WCOREDUMP(status):
        message = f"the system wrote no core, or not all of it, to {path}: {_describe_room(_dirname(path))}"
        raise UnavailableError(message)


def _describe_room(folder: str) -> str:
    """Return what bounds a core there, as far as it is known."""
    limit = _getrlimit(resource.RLIMIT_CORE)[1]
    bound = "no limit" if limit == resource.RLIM_INFINITY else f"a limit of {format_size(limit)}"
    try:
        room = _statvfs(folder)
    except OSError as error:
        return f"{bound}, {error.strerror}"
    return f"{bound}, {format_size(room.f_bavail * room.f_frsize)} free"


def _is_ours(path: str) -> bool:
    status = _lstat(path)
    return stat.S_ISREG(status.st_mode) and status.st_uid == _geteuid()


def _take(path: str, target: str, stop_at: float) -> None:
    """Move a core; raises UnavailableError."""
    try:
        if not _is_ours(path):
            message = f"{path} is no file of this user"
            raise UnavailableError(message)
        try:
            _rename(path, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(path, target, stop_at)
    except OSError as error:
        message = f"the core {path} cannot be taken: {error.strerror}"
        raise UnavailableError(message) from error


def _copy(path: str, target: str, stop_at: float) -> None:
    source = _open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        copy = _open(target, _NEW, 0o600)
        try:
            while data := _read(source, _PIECE):
                view = memoryview(data)
                while view:
                    view = view[_write(copy, view) :]
                if now() >= stop_at:
                    raise UnavailableError(_TOO_LATE)
        except BaseException:
            _unlink(target)
            raise
        finally:
            _close(copy)
    finally:
        _close(source)
