"""Cores on Windows: minidumps, written by a program beside this file (``csrc/windows.c``)."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Final

from pytest_gencore.errors import UnavailableError
from pytest_gencore.portable.kept import now

_Popen, _read, _getpid, _unlink = subprocess.Popen, os.read, os.getpid, os.unlink
"""Kept: tests patch these modules."""
PROGRAM: Final = Path(__file__).with_name("gencore-minidump.exe")
"""In the wheel for Windows only: nothing compiles it where a source distribution is installed."""
NAME: Final = "core.dmp"
_OWN_PART: Final = 0.8
"""Of the time that is left: then the program gives up by itself, which it does better than anybody else."""
_LINE_BYTES: Final = 2000
_NO_WINDOW: Final = getattr(subprocess, "CREATE_NO_WINDOW", 0)


def make_argv(milliseconds: int) -> list[str]:
    """Return the command that writes a minidump of this process into its working directory."""
    return [str(PROGRAM), str(_getpid()), NAME, str(milliseconds)]


def write_core(folder: Path, stop_at: float) -> Path:
    """Write a core of this process below the folder and return its path.

    Raises ``UnavailableError``, and then leaves no file. ``stop_at``: when it must be over, as
    ``time.monotonic`` tells it. Where Windows takes no snapshot, the process stands still meanwhile.
    """
    try:
        process = _Popen(
            make_argv(max(0, int((stop_at - now()) * _OWN_PART * 1000))),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            creationflags=_NO_WINDOW,
        )
    except Exception as error:  # tests patch what Popen needs
        message = f"the program that writes minidumps cannot be started: {error}"
        raise UnavailableError(message) from error
    path = folder / NAME
    reason = "it was interrupted"
    try:
        with process:  # closes the pipe
            reason = _await(process, stop_at)
    finally:
        if reason:
            with contextlib.suppress(OSError):
                _unlink(path)
    if reason:
        message = f"no minidump was written: {reason}"
        raise UnavailableError(message)
    return path


def _await(process: subprocess.Popen[bytes], stop_at: float) -> str:
    """Wait for the end of the program; return what went wrong, empty if nothing did."""
    try:
        status = process.wait(max(0.0, stop_at - now()))
    except subprocess.TimeoutExpired:
        process.kill()
        return "the time was over"
    except BaseException:
        process.kill()
        raise
    if status == 0:
        return ""
    assert process.stderr is not None
    line = _read(process.stderr.fileno(), _LINE_BYTES).decode(errors="replace").strip()
    return line or f"the program ended with status {status}"
