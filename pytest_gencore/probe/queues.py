"""Queues: of threads, of asyncio, and the streams of anyio that are like them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.reading import field, length_of, short, type_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Wait = dict[str, Any]
    Note = Callable[[object], int]


def read_queue(frame: FrameType, me: Any, note: Note) -> Wait:
    """Return the wait of a method of the module queue."""
    return {**_begin(frame, me, note, "queue"), **_limits(me, "maxsize", "unfinished_tasks")}


def read_async_queue(frame: FrameType, me: Any, note: Note) -> Wait:
    """Return that of a method of ``asyncio.Queue``."""
    return {**_begin(frame, me, note, "_queue"), **_limits(me, "_maxsize", "_unfinished_tasks")}


def read_memory_stream(frame: FrameType, me: Any, note: Note) -> Wait:
    """Return that of a method of anyio's memory streams: what is in them is not known."""
    return _begin(frame, me, note, "")


def _begin(frame: FrameType, me: Any, note: Note, items: str) -> Wait:
    """Return what all have; ``items``: the name of the field that holds them."""
    return {
        "kind": "queue",
        "operation": frame.f_code.co_name,
        "id": note(me),
        "type": type_name(me),
        "items": length_of(field(me, items)) if items else None,
    }


def _limits(me: Any, maxsize: str, unfinished: str) -> Wait:
    return {"maxsize": short(field(me, maxsize)), "unfinished": field(me, unfinished)}
