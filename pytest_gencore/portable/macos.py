"""Cores on macOS: a copy of the process aborts, and the kernel writes its core, as for any crash.

Compiled for macOS and never run there; all but ``read_settings`` was run on Linux. What the kernel does is
told by its sources (xnu: ``coredump`` in bsd/kern/kern_core.c, ``proc_core_name`` in bsd/kern/kern_proc.c).
"""

from __future__ import annotations

import contextlib
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
_GONE_SECONDS: Final = 1.0
"""In which a killed copy is gone, unless its kernel still writes."""
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
    pattern = _check(read_settings())
    descriptor = ctypes.c_int(-1)
    error = _holding.gencore_abort_copy(ctypes.byref(descriptor))
    if error:
        message = f"the process cannot be copied: {os.strerror(error)}"
        raise UnavailableError(message)
    path, status = "", None
    try:
        told_by = max(stop_at, now() + _GONE_SECONDS)  # else nobody would know which core to remove
        pid = _read_number(descriptor.value, told_by)
        if not pid:
            number = _read_number(descriptor.value, told_by)
            message = f"the process cannot be copied: {os.strerror(number)}"
            raise UnavailableError(message)
        path = name_core(pattern, pid)
        try:
            status = _read_number(descriptor.value, stop_at)
        finally:
            if status is None:
                _end(pid, descriptor.value)
        _judge(status, path)
        target = f"{folder}/core"
        _take(path, target, stop_at)
        return folder / "core"
    finally:
        _close(descriptor.value)
        if path:
            with contextlib.suppress(OSError):  # it was taken, or there is none
                if _is_ours(path):
                    _unlink(path)


def name_core(pattern: str, pid: int) -> str:
    """Return where the kernel writes the core of a process of ours."""
    values = {"%P": str(pid), "%U": str(_getuid()), "%%": "%"}
    return re.sub("%.", lambda found: values[found[0]], pattern)


def _check(settings: Settings) -> str:
    """Return the pattern; raises UnavailableError if no core would be written, or none be found."""
    if not settings.are_on:
        raise UnavailableError("the system writes no cores", help_text="sudo sysctl kern.coredump=1")
    pattern = settings.pattern
    unknown = set(re.findall("%.?", pattern)) - {"%P", "%U", "%%"}
    if not pattern.startswith("/") or "%P" not in pattern or unknown:
        message = f"cores are not looked for where kern.corefile says, {pattern}"
        raise UnavailableError(message, help_text="sudo sysctl kern.corefile=/cores/core.%P")
    if not _getrlimit(resource.RLIMIT_CORE)[1]:
        raise UnavailableError("the hard limit on the size of cores is 0", help_text="see ulimit -H -c")
    folder = _dirname(name_core(pattern, 0))
    if not _access(folder, os.W_OK | os.X_OK):
        message = f"cores cannot be written into {folder}"
        raise UnavailableError(message, help_text=f"sudo chmod 1777 {folder}")
    return pattern


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


def _end(pid: int, descriptor: int) -> None:
    """End a copy that takes too long: its parent has not told of its end, so the id is still its own."""
    with contextlib.suppress(OSError, UnavailableError):
        _kill(pid, signal.SIGKILL)
        _read_number(descriptor, now() + _GONE_SECONDS)


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
