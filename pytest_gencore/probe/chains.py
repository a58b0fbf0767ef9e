"""The chain of coroutines and generators that a task is in, and what is awaited at its end."""

from __future__ import annotations

import gc
import types
from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.reading import type_name

if TYPE_CHECKING:
    from types import FrameType

_LENGTH_LIMIT = 1000
_STEPS: dict[type, tuple[str, str]] = {
    types.CoroutineType: ("cr_frame", "cr_await"),
    types.GeneratorType: ("gi_frame", "gi_yieldfrom"),
    types.AsyncGeneratorType: ("ag_frame", "ag_await"),
}
_WRAPPERS = frozenset(
    ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable")
)
"""Types whose only content is what they await for: see Objects/genobject.c of CPython."""


def chain_of(awaitable: object) -> tuple[list[FrameType], Any]:
    """Return the frames, outermost first, and what the innermost one awaits: None if it runs, or is done."""
    frames: list[FrameType] = []
    while len(frames) < _LENGTH_LIMIT:
        step = _STEPS.get(type(awaitable))
        while step is None and type_name(awaitable) in _WRAPPERS:
            inside = next((thing for thing in gc.get_referents(awaitable) if _is_step(thing)), None)
            if inside is None:
                return frames, awaitable
            awaitable = inside
            step = _STEPS.get(type(awaitable))
        if step is None:
            return frames, awaitable
        frame = getattr(awaitable, step[0])
        if frame is None:
            return frames, None
        frames.append(frame)
        awaitable = getattr(awaitable, step[1])
        if awaitable is None:
            return frames, None
    return frames, None


def _is_step(thing: object) -> bool:
    return type(thing) in _STEPS or type_name(thing) in _WRAPPERS
