"""The state file: what a capture is about and how far it is, for those who wait for it.

It is locked from before the collector's program starts until the collector ends: see
``pytest_gencore.capture.run``, which reads it.
"""

from __future__ import annotations

import os
import time
from typing import Any

from pytest_gencore.collector.log import log
from pytest_gencore.runfolder import write_state

_TICK_SECONDS = 0.2


class StateFile:
    """One small JSON object, written over and over."""

    def __init__(self, descriptor: int, about: dict[str, Any]) -> None:
        """Take over the descriptor; ``about`` is what never changes."""
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._state: dict[str, Any] = {
            **about,
            "pid": os.getpid(),
            "state": "working",
            "bytes_done": 0,
            "bytes_total": 0,
        }
        self._written_at = 0.0
        self._write()

    def expect(self, total: int) -> None:
        """Say how many bytes will be read."""
        self._state["bytes_total"] = total
        self._write()

    def progress(self, done: int) -> None:
        """Say how many bytes have been read; a few times a second at most."""
        self._state["bytes_done"] = done
        if time.monotonic() - self._written_at > _TICK_SECONDS:
            self._write()

    def queue(self) -> None:
        """Say that it waits for other collectors."""
        self._state["state"] = "queued"
        self._write()

    def work(self) -> None:
        """Say that it is at work."""
        self._state["state"] = "working"
        self._write()

    def tell(self, **facts: Any) -> None:
        """Say something more."""
        self._state.update(facts)
        self._write()

    def finish(self, *, result: str, size: int, method: str, notices: list[str]) -> None:
        """Say that the result is there, under this name in the artifact directory."""
        self._state.update(state="done", result=result, size=size, method=method, reason="; ".join(notices))
        self._write()

    def fail(self, reason: str) -> None:
        """Say that there is no archive, and why."""
        self._state.update(state="failed", reason=reason)
        self._write()

    def drop(self) -> None:
        """Say that nobody wanted the archive."""
        self._state.update(state="dropped", reason="")
        self._write()

    def close(self) -> None:
        """Give up the lock: who waits now takes over what is left of the run's folder."""
        os.close(self._descriptor)

    def _write(self) -> None:
        try:
            write_state(self._descriptor, self._state)
        except OSError as error:  # a full disk: the archive's own error says more
            log(f"state: {error.strerror}")
        self._written_at = time.monotonic()
