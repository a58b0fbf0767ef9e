"""What the probe writes: JSON lines on standard error, each with a key ``fact``; read by collector/diagnosis.

========= ==============================================================================================
fact      other keys
========= ==============================================================================================
gil       held_by: ``own`` (the thread that captured), ``other``, null (nobody); written by csrc/probe.c
thread    id (``threading.get_ident``), native_id, name, is_own, place, project (places, or null), wait
loop      id, type, thread (that runs it, or null), tasks (how many), ready, scheduled (callbacks), fds
task      id, name, loop, is_current, place, coroutine, frames (places, outermost first), cancels, wait
same      of (a task's id), count: so many more tasks stand where that one does
hold      resource, thread or task, place: where its ``with`` statement is, or null
owner     resource, thread or task, count: the resource itself knows who has it
completes resource (a future), thread or task: who is about to set its result, or tasks: any of them
name      id, name, kind (``global``, ``attribute``, ``local``), of (module, class, function)
problem   step (its number; ``wait``: of one thread), error: what went wrong there
cut       what, count: how many were left out
end       everything was said; written by csrc/probe.c
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
    from types import FrameType

SECONDS = 1.0
"""How long the probe looks; the collector waits a little longer."""

_write = os.write
_encode = json.JSONEncoder(default=lambda _: None, skipkeys=True).encode
_clock = time.monotonic
_STANDARD = os.path.join(os.path.dirname(os.__file__), "")  # noqa: PTH118, PTH120 - as co_filename
_OWN = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")  # noqa: PTH118, PTH120
_STDERR = 2

_state = {"deadline": 0.0}


class OutOfTimeError(Exception):
    """The time for the look is over."""


def start() -> None:
    """Begin to count the time."""
    _state["deadline"] = _clock() + SECONDS


def check_time() -> None:
    """Raise OutOfTimeError if the time is over."""
    if _clock() > _state["deadline"]:
        raise OutOfTimeError


def say(fact: str, **keys: Any) -> None:
    """Write one fact."""
    data = (_encode({"fact": fact, **keys}) + "\n").encode(errors="replace")
    while data:
        data = data[_write(_STDERR, data) :]


def place_of(frame: FrameType) -> list[Any]:
    """Return where a frame is."""
    code = frame.f_code
    return [code.co_filename, frame.f_lineno, getattr(code, "co_qualname", code.co_name)]


def is_project(frame: FrameType) -> bool:
    """Whether a frame is neither of the standard library nor installed nor ours."""
    file = frame.f_code.co_filename
    if file.startswith(_STANDARD):
        return False
    return not (file.startswith((_OWN, "<")) or "/site-packages/" in file or "/dist-packages/" in file)


def module_of(frame: FrameType) -> str:
    """Return the name of the module that a frame's code is of, if it is the loaded one; else nothing."""
    name = frame.f_globals.get("__name__")
    module = sys.modules.get(name) if type(name) is str else None
    is_loaded = module is not None and getattr(module, "__dict__", None) is frame.f_globals
    return str(name) if is_loaded else ""
