"""The probe in the living process, where no copy of it can be had: bounded, and without code of others.

The process goes on meanwhile. What deadlocks stands still; what else is told may have changed while it was
looked at.
"""

from __future__ import annotations

import _thread
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_gencore.probe import codes, facts, named, values
from pytest_gencore.probe.main import NEWEST, tell_all
from pytest_gencore.probe.reading import field, short
from pytest_gencore.probe.threads import Threads

if TYPE_CHECKING:
    from types import FrameType

_ident: Final = _thread.get_ident
"""Kept: tests patch modules."""
_THREADS: Final = 200
_FRAMES: Final = 500
_LOCALS: Final = 100
_BYTES_LIMIT: Final = 2 << 20
"""Characters of the values of locals, of all frames."""


class Seen(NamedTuple):
    """What was looked at."""

    stacks: list[dict[str, Any]]
    """Threads: ident, name, native_id, frames; each file, line, function and locals, the innermost first."""
    facts: str
    """Lines as ``facts`` describes them; empty if this Python is not known."""
    problem: str
    """What is missing, and why; empty if nothing is."""


def look(tops: dict[int, FrameType], own: int) -> Seen:
    """Return what everything waits for, and all stacks; ``tops``: the innermost frame of each thread."""
    problem = why_not()
    values.read_with(named.call_of, named.held_by)
    lines: list[bytes] = []
    stacks = _Stacks()
    try:
        for ident in list(tops)[:_THREADS]:
            stacks.add(ident, tops[ident])
        if len(tops) > _THREADS:
            problem = problem or f"threads whose stacks are left out: {len(tops) - _THREADS}"
        if not why_not():
            facts.start(lines.append)
            tell_all(Threads(tops, own))
            facts.say("end")
    except Exception as error:  # the archive tells what there is
        problem = problem or f"the diagnosis is not complete: {type(error).__name__}"
    finally:
        facts.start()
        codes.forget()
    return Seen(stacks.found, b"".join(lines).decode(errors="replace"), problem)


def why_not() -> str:
    """Return why this Python's threads are not looked at; empty if they can be."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] > NEWEST:
        return f"no diagnosis: it is not known for {sys.implementation.name} {sys.version_info[0]}." + str(
            sys.version_info[1]
        )
    if not _has_gil():
        return "no diagnosis, no locals of other threads: without a GIL they change what is looked at"
    return ""


def _has_gil() -> bool:
    is_enabled = getattr(sys, "_is_gil_enabled", None)
    return is_enabled is None or bool(is_enabled())


class _Stacks:
    """Stacks with locals, as many as there is room for."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self._left = _BYTES_LIMIT

    def add(self, ident: int, top: FrameType) -> None:
        """Add a thread."""
        import threading

        thread = threading._active.get(ident)  # type: ignore[attr-defined] # enumerate() takes a lock
        frames: list[Any] = []
        has_locals = _has_gil() or ident == _ident()  # those of a frame that runs may crash the process
        frame: FrameType | None = top
        while frame is not None and len(frames) < _FRAMES:
            frames.append([*facts.place_of(frame), self._locals_of(frame) if has_locals else []])
            frame = frame.f_back
        self.found.append(
            {
                "ident": ident,
                "name": None if thread is None else str(field(thread, "_name", "")),
                "native_id": field(thread, "_native_id"),
                "frames": frames,
                "is_cut": frame is not None,
            }
        )

    def _locals_of(self, frame: FrameType) -> list[tuple[str, str]]:
        if self._left <= 0 or not facts.is_project(frame):
            return []
        found = []
        for name, value in list(frame.f_locals.items())[:_LOCALS]:
            if type(name) is str and not name.startswith("@") and frame.f_locals is not frame.f_globals:
                text = short(value)
                self._left -= len(name) + len(text)
                found.append((name, text))
        return found
