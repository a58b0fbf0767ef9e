"""The process that writes archives for this one: it is started early, and is nobody's child on POSIX.

A test must not find a child that is not its own, and what it patches must not be needed: a capture is one
write to a pipe.
"""

from __future__ import annotations

import _thread
import json
import os
import subprocess
from typing import Any

from pytest_gencore.errors import UnavailableError

_write, _fstat = os.write, os.fstat
"""Kept: tests patch the functions of ``os``."""
_encode = json.JSONEncoder(default=str).encode
_Popen = subprocess.Popen
_START_SECONDS = 30.0
_ON_ITS_OWN = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""On Windows: Ctrl-C, and a console that is closed, end the processes that have it."""


class Helper:
    """One of them, with the pipe on which it is told what to write; it ends with the pipe."""

    def __init__(self, argv: list[bytes], envp: list[bytes], stderr_fd: int) -> None:
        """Start it; raises ``UnavailableError``.

        What it says in place of pytest goes to ``stderr_fd``, which it gets a copy of.
        """
        environment = dict(os.fsdecode(entry).partition("=")[::2] for entry in envp)
        if os.name == "nt":  # no program starts without it
            environment["SYSTEMROOT"] = os.environ.get("SYSTEMROOT", "")
        try:
            self._process = process = _Popen(
                [os.fsdecode(argument) for argument in argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr_fd if stderr_fd >= 0 else subprocess.DEVNULL,
                env=environment,
                bufsize=0,
                creationflags=_ON_ITS_OWN,
            )
            if os.name != "nt" and process.wait(_START_SECONDS):
                message = f"its start has ended with status {process.returncode}"
                raise OSError(message)
        except (OSError, subprocess.SubprocessError) as error:
            message = f"the helper that writes archives cannot be started: {error}"
            raise UnavailableError(message) from error
        assert process.stdin is not None
        self.pid = process.pid
        process.returncode = 0  # nobody waits for it: it ends with the pipe
        self._pipe = process.stdin.fileno()
        self._file = _identify(self._pipe)
        self._lock = _thread.allocate_lock()

    def send(self, capture: dict[str, Any]) -> None:
        """Have a capture written; raises OSError if the helper, or the pipe, is gone."""
        data = _encode(capture).encode()
        data = b"%d\n" % len(data) + data
        with self._lock:
            if _identify(self._pipe) != self._file:  # a test has closed it, and has got the number
                raise OSError(9, "the pipe to the helper was closed")
            view = memoryview(data)
            while view:
                view = view[_write(self._pipe, view) :]


def _identify(descriptor: int) -> tuple[int, int]:
    status = _fstat(descriptor)
    return status.st_dev, status.st_ino
