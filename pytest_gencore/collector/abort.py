"""Ends of a capture without an archive, by a signal or because nobody wants it."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Final

from pytest_gencore.errors import GencoreError
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

DEADLINE_SECONDS: Final = 600
"""From the last look at how far it is, which comes a few times a second while bytes move."""


class CaptureAborted(GencoreError):  # noqa: N818 - an end that was asked for
    """The capture ends here, whatever other way to a core there may be."""


class CaptureDropped(CaptureAborted):
    """Nobody wants the archive any more."""


class OnlyTold(CaptureAborted):
    """The answer is all there shall be."""


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """Raise CaptureAborted in the main thread for SIGTERM, and when the deadline has passed; inside only.

    Nothing interrupts after it, on purpose: what is left to do then is short.
    """
    signal.signal(signal.SIGTERM, _on_terminate)
    signal.signal(signal.SIGALRM, _on_deadline)
    try:
        yield
    finally:
        signal.alarm(0)
        for number in (signal.SIGALRM, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def start_deadline() -> None:
    """Let the deadline run from now, whether it runs already or not."""
    signal.alarm(DEADLINE_SECONDS)


def _on_terminate(_signal: int, _frame: FrameType | None) -> None:
    raise CaptureAborted("the collector was told to end by SIGTERM")


def _on_deadline(_signal: int, _frame: FrameType | None) -> None:
    message = f"the collector has made no progress for {format_duration(DEADLINE_SECONDS)}"
    raise CaptureAborted(message)
