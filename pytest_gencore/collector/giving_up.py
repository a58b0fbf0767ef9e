"""Reasons to end a capture without an archive that no other way to the core would help against."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from pytest_gencore.errors import GencoreError

if TYPE_CHECKING:
    from types import FrameType

DEADLINE_SECONDS = 1800
"""From the moment the collector may work: see ``turns``."""


class GiveUpError(GencoreError):
    """The capture ends here; it is no ArchiveError, which would make method auto try another way."""


class DroppedError(GiveUpError):
    """Nobody wants the archive any more."""


def listen() -> None:
    """Raise GiveUpError in the main thread for SIGTERM, and when ``start_deadline`` has run out."""
    signal.signal(signal.SIGTERM, _on_terminate)
    signal.signal(signal.SIGALRM, _on_deadline)


def start_deadline() -> None:
    """Count from now."""
    signal.alarm(DEADLINE_SECONDS)


def be_deaf() -> None:
    """Let nothing interrupt from now on: what is left to do is short."""
    signal.alarm(0)
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _on_terminate(_signal: int, _frame: FrameType | None) -> None:
    raise GiveUpError("interrupted")


def _on_deadline(_signal: int, _frame: FrameType | None) -> None:
    message = f"the collector was not finished after {DEADLINE_SECONDS} s"
    raise GiveUpError(message)
