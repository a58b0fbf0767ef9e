"""What a thread waits for: the library call that blocks it, and the resource behind that."""

from __future__ import annotations

import _thread
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.child_processes import read_child
from pytest_gencore.probe.facts import is_project, module_of
from pytest_gencore.probe.pools import (
    read_executor_keeper,
    read_future,
    read_futures,
    read_pool,
    read_pool_keeper,
)
from pytest_gencore.probe.queues import read_queue
from pytest_gencore.probe.reading import field, function_name, is_a, short, type_name
from pytest_gencore.probe.values import call_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from pytest_gencore.probe.values import Call

    Wait = dict[str, Any]
    Note = Callable[[object], int]

LOCK = type(_thread.allocate_lock())
RLOCK = _thread.RLock

_FRAMES_LIMIT = 30
_FIRST_IS_DESCRIPTOR = frozenset(
    (
        "read",
        "write",
        "readv",
        "writev",
        "pread",
        "pwrite",
        "flock",
        "lockf",
        "fsync",
        "fdatasync",
        "sendfile",
    )
)
_CHILD_CALLS = frozenset(("waitpid", "wait4", "waitid"))


def wait_of(stack: Sequence[FrameType], note: Note) -> Wait | None:
    """Return what a thread waits for whose stack is given, innermost first; None if it runs.

    ``note`` takes a resource that is to be named later, and returns its id.
    """
    if not stack:
        return None
    call = call_of(stack[0])
    wait = _from_call(call, stack, note) if call is not None else None
    is_shutdown = (module_of(stack[0]), stack[0].f_code.co_name) == ("threading", "_shutdown")
    meaning = _read_shutdown(stack[0]) if is_shutdown else _from_library(stack, note)
    if meaning is None:
        return wait
    has_lock = wait is not None and wait["kind"] == "lock"
    if has_lock and meaning["kind"] in _BEGINS_WITH_LOCK and _is_entering(stack):
        return wait  # it has not come so far as to wait for what the library call is for
    for key in ("call", "timeout"):
        if wait is not None and key in wait:
            meaning.setdefault(key, wait[key])
    return meaning


_BEGINS_WITH_LOCK = frozenset(("event", "queue", "condition", "semaphore", "barrier", "future"))


def _is_entering(stack: Sequence[FrameType]) -> bool:
    """Whether a thread waits for the lock of a condition, not for the condition."""
    frame = stack[0]
    if module_of(frame) != "threading":
        return True
    return frame.f_code.co_name not in ("wait", "_wait_for_tstate_lock")


def _read_number(text: str, name: str) -> int:
    number = text.partition(name)[2].partition(" ")[0]
    return int(number) if number.isdecimal() else 0


def lock_facts(lock: Any) -> dict[str, Any]:
    """Return what a lock of the module ``_thread`` says of itself."""
    if type(lock) is RLOCK:
        text = RLOCK.__repr__(lock)
        owner, count = _read_number(text, " owner="), _read_number(text, " count=")
        return {"type": "RLock", "locked": bool(owner), "owner": owner, "count": count}
    return {"type": "Lock", "locked": LOCK.locked(lock)}


def inner_lock(thing: object) -> Any:
    """Return the lock itself: of a condition its lock; None if it is none."""
    for _ in range(3):
        if type(thing) in (LOCK, RLOCK):
            return thing
        if not is_a(thing, threading.Condition):
            return None
        thing = field(thing, "_lock")
    return None


# ---- by the C function ------------------------------------------------------------------------


def _from_call(call: Call, stack: Sequence[FrameType], note: Note) -> Wait | None:
    name, owner = call.name, call.owner
    function = function_name(call.function) or name
    if is_a(call.function, (types.FunctionType, types.MethodType)):
        return None  # of Python: about to begin
    wait: Wait = {"kind": "call", "call": function}
    if name in ("acquire", "__enter__", "_acquire_restore", "acquire_lock"):
        lock = inner_lock(owner)
        if lock is not None:
            wait = {"kind": "lock", "id": note(lock), **lock_facts(lock), "call": function}
            _add_timeout(wait, call.argument(1, "timeout"))
            return wait
        if type_name(owner) == "SemLock":
            return {
                "kind": "process_lock",
                "id": note(owner),
                "type": type_name(owner),
                "value": owner._get_value(),
            }
    if type_name(owner) == "SimpleQueue" and name == "get" and "_queue" in sys.modules:
        items = sys.modules["_queue"].SimpleQueue.qsize(owner)
        wait = {"kind": "queue", "operation": "get", "id": note(owner), "type": "SimpleQueue", "items": items}
        _add_timeout(wait, call.argument(1, "timeout"))
        return wait
    if name == "sleep" and owner is None and type(call.argument(0)) in (int, float):
        return {"kind": "sleep", "seconds": call.argument(0), "call": function}
    if name in _CHILD_CALLS and owner is None:
        pid = call.argument(1 if name == "waitid" else 0)
        return {"kind": "child", "pid": pid if type(pid) is int and pid > 0 else None, "call": function}
    if type_name(owner) == "_ThreadHandle" and name == "join":  # 3.13 and later
        return {"kind": "thread", "thread": owner.ident, "call": function}
    wait["arguments"] = [short(argument) for argument in call.arguments[:6]]
    descriptor = _descriptor_of(call, stack)
    if descriptor is not None:
        wait["fd"] = descriptor
    return wait


def _descriptor_of(call: Call, stack: Sequence[FrameType]) -> int | None:
    first = call.argument(0)
    if call.owner is None:
        is_number = call.name in _FIRST_IS_DESCRIPTOR and type(first) is int
        return first if is_number else None
    for thing in (call.owner, *(_self_of(frame) for frame in stack[:4] if not is_project(frame))):
        if thing is None:
            continue
        for cls in type(thing).__mro__:
            method = cls.__dict__.get("fileno")
            if method is None:
                continue
            if type(method) is types.MethodDescriptorType and cls.__module__ in ("_socket", "_io", "select"):
                try:
                    return int(method(thing)) if cls.__module__ != "select" else None
                except Exception:  # closed
                    return None
    return None


def _add_timeout(wait: Wait, timeout: object) -> None:
    if type(timeout) in (int, float) and timeout >= 0:  # type: ignore[operator]
        wait["timeout"] = timeout


# ---- by the library function -------------------------------------------------------------------


def _from_library(stack: Sequence[FrameType], note: Note) -> Wait | None:
    """Return the meaning of the outermost library call that is known, as far as the project's frames."""
    meaning = None
    for frame in stack[:_FRAMES_LIMIT]:
        if is_project(frame):
            break
        reader = _READERS.get((module_of(frame), frame.f_code.co_name))
        if reader is None:
            continue
        me = _self_of(frame)
        found = reader(frame, me, note) if me is not None or reader in _WITHOUT_SELF else None
        if found is not None:
            _add_timeout(found, frame.f_locals.get("timeout"))
            meaning = found
    return meaning


def _self_of(frame: FrameType) -> Any:
    code = frame.f_code
    return frame.f_locals.get("self") if code.co_argcount and code.co_varnames[0] == "self" else None


def _read_join(frame: FrameType, me: Any, note: Note) -> Wait | None:
    if not is_a(me, threading.Thread):
        return None
    return {"kind": "thread", "thread": field(me, "_ident"), "name": str(field(me, "_name", ""))}


def _read_shutdown(frame: FrameType) -> Wait | None:
    """Return which thread that is not a daemon the interpreter waits for at its end.

    Before 3.13 it has taken the lock of one; since then it waits for the first that was started.
    """
    lock = frame.f_locals.get("lock")
    keepers = [thread for thread in threading._active.values() if keeps_alive(thread)]  # type: ignore[attr-defined]
    locked = [thread for thread in keepers if lock is not None and field(thread, "_tstate_lock") is lock]
    for thread in locked or keepers[:1]:
        return _read_join(frame, thread, note=id)
    return None


def keeps_alive(thread: object) -> bool:
    """Return whether the process does not end before this thread does."""
    return is_a(thread, threading.Thread) and not (
        field(thread, "_daemonic", True) or thread is threading._main_thread  # type: ignore[attr-defined]
    )


def _read_event(frame: FrameType, me: Any, note: Note) -> Wait | None:
    if is_a(me, threading.Event):
        return {"kind": "event", "id": note(me), "type": type_name(me), "is_set": bool(field(me, "_flag"))}
    if is_a(me, threading.Barrier):
        return _read_barrier(frame, me, note)
    return _read_condition(frame, me, note)


def _read_condition(frame: FrameType, me: Any, note: Note) -> Wait | None:
    if not is_a(me, threading.Condition):
        return None
    return {"kind": "condition", "id": note(me), "type": type_name(me)}


def _read_semaphore(frame: FrameType, me: Any, note: Note) -> Wait | None:
    if not is_a(me, threading.Semaphore):
        return None
    return {"kind": "semaphore", "id": note(me), "type": type_name(me), "value": field(me, "_value")}


def _read_barrier(frame: FrameType, me: Any, note: Note) -> Wait:
    return {
        "kind": "barrier",
        "id": note(me),
        "type": type_name(me),
        "parties": field(me, "_parties"),
        "count": field(me, "_count"),
    }


def _read_import(frame: FrameType, me: Any, note: Note) -> Wait | None:
    owner, name = field(me, "owner"), field(me, "name")
    return {
        "kind": "import",
        "module": name if type(name) is str else None,
        "id": note(me),
        "thread": owner[0] if type(owner) is tuple and owner else owner,
    }


def _read_loop(frame: FrameType, me: Any, note: Note) -> Wait:
    return {"kind": "loop", "id": id(me), "type": type_name(me)}


_READERS: dict[tuple[str, str], Callable[[FrameType, Any, Note], Wait | None]] = {
    ("queue", "get"): read_queue,
    ("queue", "put"): read_queue,
    ("queue", "join"): read_queue,
    ("threading", "join"): _read_join,
    ("threading", "_wait_for_tstate_lock"): _read_join,
    ("threading", "wait"): _read_event,
    ("threading", "_wait"): _read_event,
    ("threading", "acquire"): _read_semaphore,
    ("concurrent.futures._base", "result"): read_future,
    ("concurrent.futures._base", "exception"): read_future,
    ("concurrent.futures._base", "wait"): read_futures,
    ("concurrent.futures._base", "as_completed"): read_futures,
    ("subprocess", "wait"): read_child,
    ("subprocess", "_wait"): read_child,
    ("subprocess", "communicate"): read_child,
    ("multiprocessing.pool", "wait"): read_pool,
    ("multiprocessing.pool", "next"): read_pool,
    ("multiprocessing.pool", "_handle_workers"): read_pool_keeper,
    ("concurrent.futures.process", "wait_result_broken_or_wakeup"): read_executor_keeper,
    ("multiprocessing.popen_fork", "wait"): read_child,
    ("multiprocessing.popen_fork", "poll"): read_child,
    ("importlib._bootstrap", "acquire"): _read_import,
    ("_frozen_importlib", "acquire"): _read_import,
    ("asyncio.base_events", "run_forever"): _read_loop,
}
_WITHOUT_SELF = (read_futures, read_pool_keeper)
