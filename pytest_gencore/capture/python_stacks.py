"""The stacks of this process's Python threads, for captures that Python code makes."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

from pytest_gencore.request.context import ThreadStack

if TYPE_CHECKING:
    from types import FrameType

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")  # noqa: PTH118, PTH120 - as co_filename


def read_stacks() -> list[ThreadStack]:
    """Return every Python thread's frames, innermost first, those of this thread first; no file is read."""
    tops = sys._current_frames()  # emptied below: a frame that refers to itself would keep the test's objects
    own = next(ident for ident, top in tops.items() if top is sys._getframe(1))  # get_ident() may be gevent's
    known = dict(getattr(threading, "_active", {}))  # threading.enumerate() takes a lock
    idents = sorted(tops, key=lambda ident: ident != own)
    return [_describe_thread(ident, known.get(ident), tops.pop(ident), ident == own) for ident in idents]


def _describe_thread(
    ident: int, thread: threading.Thread | None, top: FrameType, is_own: bool
) -> ThreadStack:
    frame: FrameType | None = top
    while is_own and frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back  # how the capture came about says nothing about the test
    frames = []
    while frame is not None:
        code = frame.f_code
        frames.append((code.co_filename, frame.f_lineno, getattr(code, "co_qualname", code.co_name)))
        frame = frame.f_back
    return ThreadStack(ident, getattr(thread, "name", None), getattr(thread, "native_id", None), frames)
