"""What a task awaits: by the frames of asyncio's and anyio's own coroutines, or by the future at the end."""

from __future__ import annotations

import sys
import time
import types
from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.facts import is_project, module_of
from pytest_gencore.probe.queues import read_async_queue, read_memory_stream
from pytest_gencore.probe.reading import field, fields_of, is_a, short, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    Wait = dict[str, Any]
    Note = Callable[[object], int]

_AWAITED_LIMIT = 20_000
"""Tasks and futures that one awaits at once."""
_clock = time.monotonic
_known: dict[str, tuple[type, ...]] = {}
"""Types by the module that they are of: each task is compared with them, many times."""


def task_types() -> tuple[type, ...]:
    """Return asyncio's types of tasks, the one in C and the one in Python; none if it was not imported."""
    return _types("asyncio.tasks", "Task", "_PyTask")


def _types(module: str, *names: str) -> tuple[type, ...]:
    if module not in _known:
        found = (getattr(sys.modules.get(module), name, None) for name in names)
        kinds = tuple(kind for kind in found if isinstance(kind, type))
        if not kinds:
            return ()  # it may yet be imported
        _known[module] = kinds
    return _known[module]


def is_done(future: object) -> bool:
    """Whether a future or task of asyncio has its result."""
    return field(future, "_state", "PENDING") not in ("PENDING", None)


def await_of(frames: Sequence[FrameType], waiter: object, note: Note) -> Wait | None:
    """Return what a task awaits whose chain is given, outermost first; None if it is to run next.

    ``waiter`` is the future that wakes it up.
    """
    wait: Wait | None = None
    timeout = None
    for frame in reversed(frames):
        if is_project(frame):
            break
        key = (module_of(frame), frame.f_code.co_name)
        if key == ("asyncio.tasks", "wait_for"):
            timeout = frame.f_locals.get("timeout")
            inner = frame.f_locals.get("fut")  # before 3.12 a task of its own
            if wait is None and is_a(inner, task_types()):
                wait = {"kind": "task", "tasks": [id(inner)]}
            continue
        reader = _READERS.get(key)
        found = reader(frame, frame.f_locals.get("self"), note) if reader is not None else None
        if found is not None:
            wait = found
    if wait is None:
        wait = _from_future(waiter, note)
    if wait is not None and type(timeout) in (int, float):
        wait.setdefault("timeout", timeout)
    return wait


def _from_future(waiter: object, note: Note) -> Wait | None:
    if waiter is None:
        return None
    if is_a(waiter, task_types()):
        return {"kind": "task", "tasks": [id(waiter)]}
    children = field(waiter, "_children")
    if type(children) is list:
        pending = [child for child in children if not is_done(child)]
        return {"kind": "gather", "tasks": _ids(pending, note)}
    wait: Wait = {"kind": "future", "id": note(waiter), "type": type_name(waiter)}
    source = source_of(waiter)
    if source is not None:
        wait["source"] = note(source)
    return wait


def source_of(future: object) -> Any:
    """Return what a future takes its result from: another thread's future, or a task of another loop."""
    callbacks = field(future, "_callbacks") or field(future, "_done_callbacks")
    for entry in callbacks[:10] if type(callbacks) is list else ():
        function = entry[0] if type(entry) is tuple and entry else entry
        if not is_a(function, types.FunctionType) or function.__module__ != "asyncio.futures":
            continue
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
            if name == "source":
                return cell.cell_contents
    return None


def is_known_future(thing: object) -> bool:
    """Whether it is a future of asyncio or of ``concurrent.futures``."""
    kinds = _types("asyncio.futures", "Future", "_PyFuture") + _types("concurrent.futures._base", "Future")
    return is_a(thing, kinds)


# ---- by the coroutine ---------------------------------------------------------------------------


def _read_lock(frame: FrameType, me: Any, note: Note) -> Wait:
    kind = "semaphore" if "_value" in fields_of(me) else "lock"
    wait = {"kind": kind, "id": note(me), "type": type_name(me), "value": field(me, "_value")}
    if kind == "lock":
        wait["locked"] = bool(field(me, "_locked", True))
    owner = field(me, "_owner_task")  # anyio's
    if owner is not None:
        wait["owner_task"] = id(owner)
    return wait


def _read_event(frame: FrameType, me: Any, note: Note) -> Wait:
    kind = {"Condition": "condition", "Barrier": "barrier"}.get(type_name(me), "event")
    wait: Wait = {"kind": kind, "id": note(me), "type": type_name(me)}
    if kind == "event":
        wait["is_set"] = bool(field(me, "_value", False))
    elif kind == "barrier":
        wait.update(parties=field(me, "_parties"), count=field(me, "_count"))
    return wait


def _read_sleep(frame: FrameType, me: Any, note: Note) -> Wait | None:
    when = field(frame.f_locals.get("h"), "_when")
    left = round(max(0.0, when - _clock()), 1) if type(when) is float else None
    return {"kind": "sleep", "seconds": short(frame.f_locals.get("delay")), "left": left}


def _read_wait(frame: FrameType, me: Any, note: Note) -> Wait | None:
    pending: Any = frame.f_locals.get("fs")
    if type(pending) not in (set, list, tuple, frozenset):
        return None
    tasks = _ids([thing for thing in pending if not is_done(thing)], note)
    return {"kind": "wait", "tasks": tasks, "timeout": frame.f_locals.get("timeout")}


def _read_group(frame: FrameType, me: Any, note: Note) -> Wait | None:
    tasks = field(me, "_tasks")
    if type(tasks) is not set:
        return None
    return {"kind": "task_group", "tasks": _ids([task for task in tasks if not is_done(task)], note)}


def _ids(futures: Sequence[object], note: Note) -> list[int]:
    """Return the ids; futures that are no tasks are to be named, too."""
    kinds = task_types()
    chosen = futures[:_AWAITED_LIMIT]
    return [id(future) if is_a(future, kinds) else note(future) for future in chosen]


def _read_stream(frame: FrameType, me: Any, note: Note) -> Wait | None:
    transport = field(me, "_transport")
    buffered = field(me, "_buffer")
    wait: Wait = {"kind": "stream", "call": f"{type_name(me)}.{frame.f_code.co_name}"}
    if type(buffered) is bytearray:
        wait["buffered"] = len(buffered)
    descriptor = field(transport, "_sock_fd", field(transport, "_fileno"))
    if type(descriptor) is int:
        wait["fd"] = descriptor
    return wait


def _read_process(frame: FrameType, me: Any, note: Note) -> Wait | None:
    pid = field(me, "_pid")
    if type(pid) is not int:
        pid = field(field(me, "_transport"), "_pid")
    return {"kind": "child", "pid": pid, "how": frame.f_code.co_name} if type(pid) is int else None


def _read_call(frame: FrameType, me: Any, note: Note) -> Wait:
    wait: Wait = {"kind": "call", "call": frame.f_code.co_name}
    sock: Any = frame.f_locals.get("sock")
    if type(sock).__module__ == "socket":
        wait["fd"] = sock.fileno()
    return wait


_READERS: dict[tuple[str, str], Callable[[FrameType, Any, Note], Wait | None]] = {
    ("asyncio.locks", "acquire"): _read_lock,
    ("asyncio.locks", "wait"): _read_event,
    ("asyncio.queues", "get"): read_async_queue,
    ("asyncio.queues", "put"): read_async_queue,
    ("asyncio.queues", "join"): read_async_queue,
    ("asyncio.tasks", "sleep"): _read_sleep,
    ("asyncio.tasks", "_wait"): _read_wait,
    ("asyncio.taskgroups", "__aexit__"): _read_group,
    ("asyncio.taskgroups", "_aexit"): _read_group,
    ("asyncio.streams", "_wait_for_data"): _read_stream,
    ("asyncio.streams", "_drain_helper"): _read_stream,
    ("asyncio.streams", "wait_closed"): _read_stream,
    ("asyncio.streams", "drain"): _read_stream,
    ("asyncio.subprocess", "wait"): _read_process,
    ("asyncio.subprocess", "communicate"): _read_process,
    ("asyncio.base_subprocess", "_wait"): _read_process,
    ("asyncio.selector_events", "sock_recv"): _read_call,
    ("asyncio.selector_events", "sock_recv_into"): _read_call,
    ("asyncio.selector_events", "sock_sendall"): _read_call,
    ("asyncio.selector_events", "sock_connect"): _read_call,
    ("asyncio.selector_events", "sock_accept"): _read_call,
    ("asyncio.base_events", "getaddrinfo"): _read_call,
    ("asyncio.base_events", "create_connection"): _read_call,
    ("anyio._backends._asyncio", "acquire"): _read_lock,
    ("anyio._core._synchronization", "acquire"): _read_lock,
    ("anyio._backends._asyncio", "__aexit__"): _read_group,
    ("anyio.streams.memory", "receive"): read_memory_stream,
    ("anyio.streams.memory", "send"): read_memory_stream,
}
