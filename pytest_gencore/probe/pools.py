"""Futures, and results of pools of processes: which children may have the work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.reading import field, short, type_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Wait = dict[str, Any]
    Note = Callable[[object], int]

_LIMIT = 100
_JOBS_LIMIT = 10_000


def read_pool(frame: FrameType, me: Any, note: Note) -> Wait | None:
    """Return the wait for a result of ``multiprocessing.Pool``."""
    pool = field(me, "_pool")
    jobs = field(field(field(pool, "_inqueue"), "_reader"), "_handle")
    return _wait(note(me), _pids_of(field(pool, "_pool")), jobs)


def read_pool_keeper(frame: FrameType, me: Any, note: Note) -> Wait | None:
    """Return that of the thread that keeps the children of such a pool, if there is work."""
    jobs = field(field(frame.f_locals.get("inqueue"), "_reader"), "_handle")
    has_work = bool(frame.f_locals.get("cache"))
    return _wait(None, _pids_of(frame.f_locals.get("pool")), jobs) if has_work else None


def read_executor_keeper(frame: FrameType, me: Any, note: Note) -> Wait | None:
    """Return that of the thread of a ``ProcessPoolExecutor``, if there is work."""
    return _wait_for_executor(me) if field(me, "pending_work_items") else None


def read_future(frame: FrameType, me: Any, note: Note) -> Wait:
    """Return the wait for the result of a future."""
    pool = _of_executor([me])
    if pool is not None:
        return {**pool, "id": note(me)}
    return {"kind": "future", "id": note(me), "type": type_name(me), "state": short(field(me, "_state"))}


def read_futures(frame: FrameType, me: Any, note: Note) -> Wait | None:
    """Return that of ``concurrent.futures.wait`` and ``as_completed``."""
    pending: Any = frame.f_locals.get("not_done", frame.f_locals.get("pending", frame.f_locals.get("fs")))
    if type(pending) not in (set, list, tuple, frozenset):
        return None
    futures = list(pending)
    pool = _of_executor(futures)
    if pool is not None:
        return {**pool, "count": len(futures)}
    return {"kind": "futures", "futures": [note(future) for future in futures[:100]]}


def _of_executor(futures: list[Any]) -> Wait | None:
    """Return the wait for futures that a ``ProcessPoolExecutor`` has; None if there is none that has them."""
    module = sys.modules.get("concurrent.futures.process")
    keepers = getattr(getattr(module, "_threads_wakeups", None), "data", None)  # of a WeakKeyDictionary
    for reference in list(keepers) if type(keepers) is dict else ():
        keeper = reference()
        items = field(keeper, "pending_work_items")
        if type(items) is dict and len(items) <= _JOBS_LIMIT:
            pending = {id(field(item, "future")) for item in list(items.values())}
            if futures and pending.issuperset(map(id, futures)):
                return _wait_for_executor(keeper)
    return None


def _wait_for_executor(keeper: Any) -> Wait | None:
    processes = field(keeper, "processes")
    jobs = field(field(field(keeper, "call_queue"), "_reader"), "_handle")
    return _wait(None, _pids_of(list(processes.values())), jobs) if type(processes) is dict else None


def _pids_of(processes: Any) -> list[int] | None:
    if type(processes) is not list:
        return None
    pids = [field(field(process, "_popen"), "pid") for process in processes[:_LIMIT]]
    return [pid for pid in pids if type(pid) is int]


def _wait(number: int | None, pids: list[int] | None, jobs: Any) -> Wait | None:
    """``jobs``: the descriptor from which the children read what they are to do."""
    if pids is None:
        return None
    wait: Wait = {"kind": "pool", "pids": pids}
    if number is not None:
        wait["id"] = number
    if type(jobs) is int:
        wait["jobs"] = jobs
    return wait
