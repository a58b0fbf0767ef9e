"""The kernel's core of a snapshot: whether there will be one, making it, finding it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

from pytest_gencore.errors import ArchiveError
from pytest_gencore.machine.core_pattern import CoreFacts, CorePattern
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot

_SIGSEGV = 11


def describe_dump(pid: int, handover: Handover) -> CoreFacts:
    """Return what the kernel puts into the name of the core of the snapshot or its copy."""
    return CoreFacts(
        pid=pid,
        tid=pid,
        signal=_SIGSEGV,
        hostname=socket.gethostname(),
        comm=handover.threads[0].name,
        executable=handover.context.run.executable,
    )


class KernelDump:
    """A copy of the snapshot that dies of SIGSEGV, and the core that the kernel writes of it."""

    def __init__(self, snapshot: Snapshot, handover: Handover, pattern: CorePattern) -> None:
        """Let it die; the kernel writes while we go on. Raises ArchiveError if there can be no copy."""
        self._snapshot = snapshot
        self._pattern = pattern
        self._work_directory = handover.work_directory
        self._status: int | None = None
        self._is_removed = False
        copy = snapshot.copy_to_crash()
        self._facts = describe_dump(copy, handover)
        for folder in pattern.subdirectories(self._work_directory, self._facts):
            folder.mkdir(mode=0o700, exist_ok=True)
        # In our own folder every core is this one, whatever the clock says.
        self._began_ns = time.time_ns() if pattern.is_absolute else 0
        os.kill(copy, _SIGSEGV)

    def has_ended(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the kernel to finish; tell whether it has."""
        if self._status is None:
            self._status = self._snapshot.status_of_copy(timeout)
        return self._status is not None

    def find(self) -> Path | None:
        """Return the core, as far as it is written, None if there is none (yet, or any more)."""
        if self._is_removed:
            return None
        return self._pattern.find(self._work_directory, self._facts, newer_than_ns=self._began_ns)

    def wait(self, timeout: float) -> None:
        """Wait until the core is written; raises ArchiveError if the kernel takes longer."""
        if not self.has_ended(timeout):
            message = f"the kernel did not finish the core within {format_duration(timeout)}"
            raise ArchiveError(message)

    def finish(self, timeout: float) -> Path:
        """Wait until the core is written and return it; raises ArchiveError if there is none."""
        self.wait(timeout)
        assert self._status is not None
        core = self.find()
        if core is None:
            reason = _explain_missing(self._status, self._snapshot, self._pattern)
            raise ArchiveError(reason, help_text="use --gencore-method=auto")
        return core

    def remove(self) -> None:
        """Remove the core's name. Its space is free when nobody has it open any more, not even the kernel.

        Not before the kernel has written something: it refuses a file whose name is gone when it opens it.
        """
        core = self.find()
        if core is not None:
            with contextlib.suppress(OSError):
                core.unlink()
            self._is_removed = True


def _explain_missing(status: int, snapshot: Snapshot, pattern: CorePattern) -> str:
    if not os.WIFSIGNALED(status):
        return "the kernel did not end the snapshot by SIGSEGV: is it the first process of a PID namespace?"
    if os.WTERMSIG(status) != _SIGSEGV:
        return f"the snapshot was ended by signal {os.WTERMSIG(status)} before its core was written"
    error = snapshot.status.chdir_error
    if error:
        return f"the snapshot could not enter its working directory: {os.strerror(error)}"
    where = f"core_pattern is {pattern.template!r}"
    if os.WCOREDUMP(status):
        return f"the kernel says that it wrote a core, but there is no file of ours; {where}"
    return f"the kernel wrote no core; {where}"
