"""The deadline of a run without progress; the extension takes notice of progress."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pytest_gencore.protocol import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.capture import PreparedCapture

LATER_SECONDS = 2.0, 10.0
"""How much later than that of its workers the deadline of a controller passes: at least, and at most."""
LATER_PART = 0.1


class SessionDeadline:
    """That of one process; a run without it has one that does nothing."""

    def __init__(
        self, native: Any, seconds: float, prepared: PreparedCapture | None, *, exits: bool, local: bool
    ) -> None:
        """Prepare; the clock does not run yet. ``local``: as in a process that is no worker."""
        self._native = native
        self._seconds = seconds
        self._prepared = prepared
        self._exits = exits
        self._local = local

    def start(self) -> None:
        """Let the clock run, from the beginning."""
        if self._prepared is not None:
            with contextlib.suppress(OSError):  # no signal is free: a run without it
                self._native.set_deadline(
                    Deadline.SESSION, self._seconds, self._prepared.standby, self._exits
                )

    def stop(self) -> None:
        """Stop the clock; what it did tells its collector."""
        if self._prepared is not None:
            self._native.cancel_deadline(Deadline.SESSION)

    def begin_test(self) -> None:
        """Start it in a worker, which has something to do again."""
        if not self._local:
            self.start()

    def end_work(self) -> None:
        """Stop it in a worker, which waits for its controller, however long that takes."""
        if not self._local:
            self.stop()

    def begin_end(self) -> None:
        """Start it in a process that has come to its end; a worker waits for its controller then."""
        if self._local:
            self.start()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what we wait for ourselves."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def note_progress(self) -> None:
        """Take notice of what the extension cannot see: a message of a worker. It is captured again then."""
        if self._native.note_progress():
            self.start()


def find_controller_seconds(seconds: float | None) -> float | None:
    """Return the deadline of a controller whose workers have this one.

    Theirs passes first: they know where they are.
    """
    if seconds is None:
        return None
    least, most = LATER_SECONDS
    return seconds + min(max(seconds * LATER_PART, least), most)
