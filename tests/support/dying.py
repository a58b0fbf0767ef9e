"""Subjects that die: scripts whose signal handler captures, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from subjects import search_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PRELUDE = """
import ctypes, faulthandler, os, signal, sys, threading, time
from pathlib import Path
from pytest_gencore.capture import CaptureEngine, CaptureRequest, _native, new_run_id, start
from pytest_gencore.run.run import Run
from pytest_gencore.protocol import Phase
from pytest_gencore.request.context import SessionContext

class Dying:
    def __init__(self, directory, stderr_fd=2, **about):
        session = SessionContext(**about)
        self.run_id = new_run_id()
        self.run = Run(Path(directory), self.run_id)
        self.engine = CaptureEngine(Path(directory), self.run_id, stderr_fd=stderr_fd, session=session)
        faulthandler.register(signal.SIGUSR2, file=2, all_threads=True)
        assert _native.adopt_trace(signal.SIGUSR2, 0)
        _native.set_test('"test_a.py::test_a"')
        _native.set_test_phase(Phase.CALL, 1)

    def arm(self, trigger, await_seconds=50, **options):
        request = CaptureRequest(trigger=trigger, core_filter=0x11, **options)
        return self.engine.prepare_capture(request, await_seconds=await_seconds).standby

    def watch_crashes(self, **options):
        _native.set_crash_standby(self.arm("crash", **options))
        assert _native.watch_crashes() == 5
"""


@dataclass(frozen=True, slots=True)
class Dead:
    """What a process left."""

    status: int
    """As ``subprocess`` has it: negative for a signal."""
    errors: str
    """Its standard error, its collector's words among them."""
    archive: Path | None
    """The only one in the directory."""


def run_dying(script: str, directory: Path, *arguments: str, timeout: float = 60) -> Dead:
    """Run a script after ``PRELUDE`` with the directory and the arguments in ``sys.argv``, until it and its
    collectors have ended: who reads its standard error sees the end only then.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, os.fspath(directory), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": search_path()},
    )
    try:
        _, errors = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    archives = sorted(directory.glob("*.tar.gz"))
    assert len(archives) <= 1
    return Dead(process.returncode, errors.decode(errors="replace"), archives[0] if archives else None)


def lines_of_gencore(errors: str) -> Sequence[str]:
    """Return the lines that collectors begin with their name."""
    return [line for line in errors.splitlines() if line.startswith("gencore: ")]
