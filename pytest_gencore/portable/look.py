"""What a capture takes from the living process: stacks, facts for the diagnosis, the environment."""

from __future__ import annotations

import _thread
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.portable.kept import now, process_seconds, sleep
from pytest_gencore.portable.watchdog import is_watchdog
from pytest_gencore.probe import in_process

if TYPE_CHECKING:
    from types import FrameType

_ident, _current_frames, _getframe = _thread.get_ident, sys._current_frames, sys._getframe
_getpid = os.getpid
_clock_of, _read_clock = getattr(time, "pthread_getcpuclockid", None), getattr(time, "clock_gettime", None)
"""Kept: tests patch the functions of ``time``; the last two are missing on some systems."""
_PACKAGE: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")  # noqa: PTH118, PTH120
_ABOVE: Final = 4
"""Frames above ours: of ``Condition.wait_for``, at most."""
_SAMPLE_SECONDS: Final = 0.03
_SAMPLES: Final = 4
_RAN_SECONDS: Final = 0.002
"""What a thread must take of a processor in the samples to be called busy; one that waits takes nothing."""


class Clock:
    """What a thread takes of a processor, from here on."""

    def __init__(self, thread: int) -> None:
        self.late = 0.0
        """How many seconds after its deadline the thread is looked at."""
        self._thread = thread
        self._began = now()
        self._used = self._read()

    def find_part(self) -> float | None:
        """Return which part of the time it has run, 0 to 1; None if it does not run now, or nobody can tell.

        Takes a moment, if it does not run.
        """
        if self._used is None:
            return None
        before = self._read()
        position = self._find_position()
        for _ in range(_SAMPLES):
            sleep(_SAMPLE_SECONDS)
            used = self._read()
            if used is None or before is None:
                return None
            if used - before >= _RAN_SECONDS and (_clock_of is not None or self._find_position() != position):
                return (used - self._used) / max(now() - self._began, 1e-6)
        return None

    def _read(self) -> float | None:
        """Return its seconds; of the process where a thread has no clock, if it is the only one of Python."""
        try:
            if _clock_of is not None and _read_clock is not None:
                return float(_read_clock(_clock_of(self._thread)))
        except OSError:
            return None
        own = {self._thread, _ident()}
        return process_seconds() if own.issuperset(_current_frames()) else None

    def _find_position(self) -> tuple[int, int] | None:
        frame = _current_frames().get(self._thread)
        return None if frame is None else (id(frame.f_code), frame.f_lasti)


def look(own: int, clock: Clock | None = None) -> dict[str, Any]:
    """Return what the helper must know of the process; ``own`` is the thread that runs the test.

    ``clock``: of that, since its deadline was set.
    """
    busy = None if clock is None else clock.find_part()
    tops: dict[int, FrameType] = {
        ident: frame for ident, frame in _current_frames().items() if not is_watchdog(frame)
    }
    if own != _ident():
        tops.pop(_ident(), None)
    top = tops.pop(own, None)
    top = _below_us(top)
    if top is not None:
        tops = {own: top, **tops}
    try:
        seen = in_process.look(tops, own)
    finally:
        tops.clear()
        del top
    return {
        "pid": _getpid(),
        "busy": busy,
        "late": 0.0 if clock is None else clock.late,
        "environment": list(os.environ.items()),
        "stacks": seen.stacks,
        "facts": seen.facts,
        "problem": seen.problem,
    }


def _below_us(top: FrameType | None) -> FrameType | None:
    """Return the frame below ours: how the capture came about says nothing about the test.

    In a signal handler that waits for the capture, frames of the standard library are above ours.
    """
    frame = top
    for _ in range(_ABOVE):
        if frame is None:
            break
        is_ours = frame.f_code.co_filename.startswith(_PACKAGE)
        frame = frame.f_back
        if is_ours:
            return _below_us(frame)
    return top
