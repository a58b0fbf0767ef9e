"""The collector's end of its state file, which it keeps locked until it ends."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.log import log
from pytest_gencore.run.state import write_state

if TYPE_CHECKING:
    from pytest_gencore.run.state import CaptureState

_TICK_SECONDS: Final = 0.2


class StateFile:
    """Writes the state of this capture over and over."""

    def __init__(self, descriptor: int, state: CaptureState) -> None:
        """Take over the descriptor and write the first state; the object becomes ours."""
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._state = state
        state.pid = os.getpid()
        self._written_at = 0.0
        self._write()

    def expect(self, total: int) -> None:
        """Say how many bytes will be read."""
        self._state.bytes_total = total
        self._write()

    def progress(self, done: int) -> None:
        """Say how many bytes have been read; a few times a second at most."""
        self._state.bytes_done = done
        if time.monotonic() - self._written_at > _TICK_SECONDS:
            self._write()

    def queue(self) -> None:
        """Say that it waits for other collectors."""
        self._state.state = "queued"
        self._write()

    def work(self) -> None:
        """Say that it is at work."""
        self._state.state = "working"
        self._write()

    def answer(self, summary: str, subject: str) -> None:
        """Say that the diagnosis is in the run's folder, its line about the trigger, and what it is about."""
        self._state.answered = True
        self._state.subject = subject
        self._state.summary = summary
        self._write()

    def finish(
        self, *, result: str, size: int, method: str, notices: list[str], goes_on: bool = False
    ) -> None:
        """Say that the result is there, under this name in the directory; ``goes_on``: more comes."""
        self._state.state = "done"
        self._state.result = result
        self._state.size = size
        self._state.method = method
        self._state.reason = "; ".join(notices)
        self._state.goes_on = goes_on
        self._write()

    def end(self) -> None:
        """Say that all is done."""
        self._state.goes_on = False
        self._write()

    def begin_upload(self) -> None:
        """Say that the archive is there, and is uploaded next."""
        self._state.is_uploading = True
        self._state.bytes_done = self._state.bytes_total = 0
        self._write()

    def upload(self, done: int, total: int) -> None:
        """Say how many bytes are in the store."""
        self._state.bytes_total = total
        self.progress(done)

    def end_upload(self, url: str, problem: str) -> None:
        """Say where the archive is in the store, or why it is not there."""
        self._state.is_uploading = False
        self._state.url = url
        self._state.store_problem = problem
        self._write()

    def end_page(self, problem: str) -> None:
        """Say that the page is there, or why it is not."""
        self._state.reason = "; ".join(filter(None, (self._state.reason, problem)))
        self._write()

    def fail(self, reason: str) -> None:
        """Say that there is no archive, and why."""
        self._state.state = "failed"
        self._state.reason = reason
        self._write()

    def drop(self) -> None:
        """Say that nobody wanted the archive."""
        self._state.state = "dropped"
        self._state.reason = ""
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
