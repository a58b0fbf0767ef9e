"""Python threads as an archive shows them, whoever has read them: the engine, faulthandler or pystack."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.request.context import ThreadStack

_LOCK_SOURCE = re.compile(r"\.acquire\(|^(?:with|async with) [\w.\[\]]+(?: as \w+)? *[:,]")
_JOIN_SOURCE = re.compile(r"\.join\((?:timeout *=.*|[\d.]*)\)")
_NATIVE_LOCK = re.compile(
    r"lock_PyThread_acquire_lock|PyThread_acquire_lock|rlock_acquire|PyMutex_Lock|semlock_acquire"
)
_NATIVE_MUTEX = re.compile(r"pthread_mutex_(?:timed)?lock|lll_(?:mutex_)?lock_wait|pthread_rwlock_")
EVENT: Final = "an event or condition"
"""What ``find_wait`` says of threads that may be idle."""
_THREADING = {
    "wait": EVENT,
    "acquire": "a lock",
    "__enter__": "a lock",
    "join": "the end of a thread",
    "_wait_for_tstate_lock": "the end of a thread",
}
"""What a thread waits for in a function of the module threading."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One call."""

    file: str
    """As the code object or the debug information has it; may not exist."""
    line: int | None
    """1 for the first; None if not known."""
    function: str
    """Qualified where that is known."""
    locals: tuple[tuple[str, str], ...] = ()
    """Name and ``repr``, arguments first; only pystack knows them."""
    source: str = ""
    """The line of source, stripped; empty if it cannot be had."""
    native: bool = False
    """Whether it is a call of compiled code."""
    library: str = ""
    """Name of the executable or library that a native frame belongs to."""


@dataclass(frozen=True, slots=True)
class PythonThread:
    """One thread and its stack."""

    name: str | None
    """The one that ``threading`` knows, else the kernel's; None if neither is known."""
    native_id: int | None
    """The kernel's thread id."""
    ident: int | None
    """``threading.get_ident()``: the value of pthread_self(3)."""
    frames: tuple[Frame, ...]
    """Innermost last."""
    holds_gil: bool | None = None
    """None if not known."""
    is_current: bool = False
    """Whether it made the capture, or crashed."""
    waiting_for: str | None = None
    """What it waits for, as far as whoever read it knows; see ``find_wait``."""


def threads_of(stacks: Sequence[ThreadStack]) -> list[PythonThread]:
    """Return the threads that the captured process itself saw, the capturing one first."""
    return [
        PythonThread(
            name=stack.name,
            native_id=stack.native_id,
            ident=stack.ident,
            frames=tuple(Frame(*frame) for frame in reversed(stack.frames)),
            is_current=number == 0,
        )
        for number, stack in enumerate(stacks)
    ]


def merge_threads(known: Sequence[PythonThread], richer: Sequence[PythonThread]) -> list[PythonThread]:
    """Complete threads with what pystack has read: locals, native frames, the GIL.

    Threads are matched by native id and keep order, name and place of ``known``; threads that only pystack
    has seen follow. Frames of the capture itself, which ``known`` leaves out, stay left out.
    """
    by_id = {thread.native_id: thread for thread in richer if thread.native_id}
    merged = []
    for thread in known:
        other = by_id.pop(thread.native_id, None) if thread.native_id else None
        if other is None:
            merged.append(thread)
            continue
        merged.append(
            replace(
                thread,
                name=thread.name or other.name,
                frames=_merge_frames(thread.frames, other.frames),
                holds_gil=other.holds_gil,
                waiting_for=other.waiting_for or thread.waiting_for,
            )
        )
    return merged + [thread for thread in richer if thread.native_id in by_id]


def _merge_frames(known: tuple[Frame, ...], richer: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """Return the richer frames up to the innermost known one."""
    python = [index for index, frame in enumerate(richer) if not frame.native]
    if len(python) < len(known) or not known:
        return known or richer
    if any(frame.file != richer[index].file for frame, index in zip(known, python, strict=False)):
        return known  # not the same moment, or not the same thread
    return richer if len(python) == len(known) else richer[: python[len(known) - 1] + 1]


def find_wait(thread: PythonThread) -> str | None:
    """Return what a thread waits for, guessed from its innermost frames; None if it seems to run."""
    innermost = next((frame for frame in reversed(thread.frames) if not frame.native), None)
    return thread.waiting_for or (innermost and _wait_in_python(innermost)) or _wait_in_native(thread.frames)


def _wait_in_python(innermost: Frame) -> str | None:
    function = innermost.function.rpartition(".")[2]
    if innermost.file.endswith("/threading.py") and function in _THREADING:
        return _THREADING[function]
    if _LOCK_SOURCE.search(innermost.source):
        return "a lock"
    return "the end of a thread" if _JOIN_SOURCE.search(innermost.source) else None


def _wait_in_native(frames: Sequence[Frame]) -> str | None:
    for frame in takewhile(lambda frame: frame.native, reversed(frames)):
        if _NATIVE_LOCK.search(frame.function):
            return "a lock"
        if _NATIVE_MUTEX.search(frame.function):
            return "a lock of compiled code"
    return None
