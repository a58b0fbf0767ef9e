"""A program that may open only some files, by Landlock: see landlock(7). No whole sandbox, but part of Linux.

This file, run as a script, gives up the right to all other files and becomes the program.
"""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import struct
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SCRIPT: Final = os.path.abspath(__file__)  # noqa: PTH100 - imports less
_END: Final = "--"
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""System calls; the same numbers on all architectures."""
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NO_NEW_PRIVILEGES: Final = 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1, 2, 4, 8
_RIGHTS: Final = (0, 0x1FFF, 0x3FFF, 0x7FFF)
"""All rights to files, by version: what is not among them is not restricted."""
_WRITABLE: Final = "/dev/null"


@functools.cache
def has_landlock() -> bool:
    """Whether this kernel has it, and lets this process use it."""
    try:
        return _call(_CREATE_RULESET, None, 0, _VERSION) >= 1
    except OSError:
        return False


def landlocked(command: Sequence[str], paths: Iterable[str]) -> list[str]:
    """Return the command that runs a command which may open only these files and those in these folders."""
    return [sys.executable, "-I", "-S", _SCRIPT, *paths, _END, *command]


def _call(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    words = (ctypes.c_long(part) if isinstance(part, int) else part for part in arguments)
    result = int(libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _restrict(paths: Iterable[str]) -> None:
    """Give up the right to open, make and remove what is not below ``paths``; raises OSError."""
    version = min(_call(_CREATE_RULESET, None, 0, _VERSION), len(_RIGHTS) - 1)
    ruleset = _call(_CREATE_RULESET, struct.pack("=Q", _RIGHTS[version]), 8, 0)
    for path in (*paths, _WRITABLE):
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        rights = _EXECUTE | _READ_FILE | (_WRITE_FILE if path == _WRITABLE else 0)
        rights |= _READ_FOLDER if stat.S_ISDIR(os.fstat(descriptor).st_mode) else 0
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
        os.close(descriptor)
    if ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs cannot be set")
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _narrow_search(paths: Iterable[str]) -> None:
    """Keep on PATH what may be opened: the Python in lldb fails if it finds another one there."""
    folders = tuple(f"{path}/" for path in paths)
    kept = [entry for entry in os.get_exec_path() if f"{entry}/".startswith(folders)]
    os.environ["PATH"] = os.pathsep.join(kept)


def _main(*arguments: str) -> None:
    end = arguments.index(_END)
    command = arguments[end + 1 :]
    try:
        _narrow_search(arguments[:end])
        _restrict(arguments[:end])
        os.execv(command[0], command)  # noqa: S606 - no shell
    except OSError as error:
        sys.exit(f"cannot be started: {error.strerror}")


if __name__ == "__main__":
    _main(*sys.argv[1:])
