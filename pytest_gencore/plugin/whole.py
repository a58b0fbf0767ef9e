"""Whether pytest is all that its process is for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_MODULE = "_pytest.config"
_MAIN, _PROGRAM = {"main", "_main"}, {"console_main", "_console_main"}


def is_whole_process() -> bool:
    """Return whether pytest was started as a program, not by ``pytest.main`` of another one.

    Called while pytest is configured. Private names: where they are others, it is another program's.
    """
    frame: FrameType | None = sys._getframe()
    is_inside = False
    while frame is not None:
        name = frame.f_code.co_name if frame.f_globals.get("__name__") == _MODULE else ""
        if name in _MAIN:
            is_inside = True
        elif is_inside:
            return name in _PROGRAM
        frame = frame.f_back
    return False
