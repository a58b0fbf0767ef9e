"""What the probe writes: JSON lines on standard error, each with a key ``fact``; read by collector/diagnosis.

========= ==============================================================================================
fact      other keys
========= ==============================================================================================
gil       held_by: ``own`` (the thread that captured), ``other``, null (nobody); written by csrc/probe.c
thread    id (``threading.get_ident``), native_id, name, is_own, place, project (places, or null), wait
loop      id, type, thread (that runs it, or null), main (a task's id, or null), tasks (how many), ready and
          scheduled (how many callbacks), due (names of some), fds
task      id, name, loop, is_current, is_main, coroutine, frames (places, outermost first), wait; framework
          and more where it is none of asyncio's
same      of (a task's id), count: so many more tasks stand where that one does
hold      resource, thread or task, place: where its ``with`` statement is, or null
owner     resource, thread or task, count: the resource itself knows who has it
completes resource (a future), and who is about to set its result: thread, task, future, or threads (any)
name      id, name, kind (``global``, ``attribute``, ``local``), of (module, class, function)
problem   step (its number; ``wait``: of one thread), error: what went wrong there
cut       what, count: how many were left out
end       everything was said; failed: an exception ended it; both written by csrc/probe.c
========= ==============================================================================================

A place is ``[file, line, function]``. A wait has ``kind`` and, by kind: id and type of a resource; threads,
tasks or futures that it ends with; timeout in seconds if it has one; and more, see ``waits`` and ``tasks``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SECONDS = 1.0
"""How long the probe looks; the collector waits a little longer."""

_write = os.write
_encode = json.JSONEncoder(default=lambda _: None, skipkeys=True).encode
_clock = time.monotonic
_STANDARD = os.path.join(os.path.dirname(os.__file__), "")  # noqa: PTH118, PTH120 - as co_filename
_OWN = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")  # noqa: PTH118, PTH120
_SEPARATOR = os.sep
_STDERR = 2


def _write_to_stderr(data: bytes) -> None:
    while data:
        data = data[_write(_STDERR, data) :]


_state: dict[str, Any] = {"deadline": 0.0, "write": _write_to_stderr}


class OutOfTimeError(Exception):
    """The time for the look is over."""


def start(write: Callable[[bytes], object] = _write_to_stderr) -> None:
    """Begin to count the time; facts go to ``write``."""
    _state["write"] = write
    _state["deadline"] = _clock() + SECONDS


def check_time() -> None:
    """Raise OutOfTimeError if the time is over."""
    if _clock() > _state["deadline"]:
        raise OutOfTimeError


def say(fact: str, **keys: Any) -> None:
    """Write one fact."""
    _state["write"]((_encode({"fact": fact, **keys}) + "\n").encode(errors="replace"))


def place_of(frame: FrameType) -> list[Any]:
    """Return where a frame is."""
    code = frame.f_code
    return [code.co_filename, frame.f_lineno, getattr(code, "co_qualname", code.co_name)]


def is_project(frame: FrameType) -> bool:
    """Whether a frame is neither of the standard library nor installed nor ours."""
    return is_project_file(frame.f_code.co_filename)


def is_project_file(file: str) -> bool:
    """Whether code is neither of the standard library nor installed nor ours, and has a file."""
    path = file.replace(_SEPARATOR, "/")
    is_installed = "/site-packages/" in path or "/dist-packages/" in path
    return not (is_installed or file.startswith((_STANDARD, _OWN, "<")))


def module_of(frame: FrameType) -> str:
    """Return the name of the module that a frame's code is of, if it is the loaded one; else nothing."""
    name = frame.f_globals.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    is_loaded = module is not None and getattr(module, "__dict__", None) is frame.f_globals
    return str(name) if is_loaded else ""
