"""What is done while the product is written: tell how far it is, and see whether it may go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.abort import CaptureDropped
from pytest_gencore.run.files import DROP

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_gencore.collector.outcome.messenger import Messenger
    from pytest_gencore.collector.outcome.state_file import StateFile
    from pytest_gencore.collector.source.handover import Handover

_CHECK_SECONDS: Final = 0.2
_CHECK_BYTES: Final = 4 << 20


class Progress:
    """Called often; does something a few times a second."""

    def __init__(self, handover: Handover, state: StateFile, messenger: Messenger) -> None:
        """``add_check`` adds what else can end the capture."""
        self._drop_mark: Path = handover.run_folder / DROP.named(handover.name)
        self._state = state
        self._messenger = messenger
        self._checks: list[Callable[[], None]] = []
        self._frequent: list[Callable[[], None]] = []
        self._checked_at = 0.0
        self._checked_bytes = 0

    def add_check(self, check: Callable[[], None], *, frequent: bool = False) -> None:
        """Call this, too; it raises CaptureAborted if the capture must end. ``frequent``: every few MiB."""
        (self._frequent if frequent else self._checks).append(check)

    def expect(self, total: int) -> None:
        """Say how many bytes will be read."""
        self._state.expect(total)

    def advance(self, done: int) -> None:
        """Say how many bytes have been read; raises CaptureAborted if the capture must end."""
        self._state.progress(done)
        if time.monotonic() - self._checked_at >= _CHECK_SECONDS:
            self.check()
        elif not 0 <= done - self._checked_bytes < _CHECK_BYTES:
            self._checked_bytes = done
            for check in self._frequent:
                check()

    def check(self) -> None:
        """Look now; raises CaptureAborted if the capture must end."""
        self._checked_at = time.monotonic()
        if self.is_dropped():
            raise CaptureDropped("dropped")
        for check in (*self._frequent, *self._checks):
            check()
        self._messenger.check()

    def is_dropped(self) -> bool:
        """Whether nobody wants the archive any more."""
        return self._drop_mark.exists()
