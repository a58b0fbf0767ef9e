"""asyncio's tasks, of every loop in the process: whatever runner made them."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.awaits import await_of, is_done, is_known_future, source_of, task_types
from pytest_gencore.probe.chains import chain_of
from pytest_gencore.probe.facts import check_time, place_of, say
from pytest_gencore.probe.reading import field, function_name, instances_of, is_a, length_of, type_name
from pytest_gencore.probe.values import held_by

if TYPE_CHECKING:
    from types import FrameType

    from pytest_gencore.probe.threads import Threads

_TASKS_LIMIT = 100_000
_TOLD_LIMIT = 500
"""Tasks that are told one by one; of the others, those that stand alike are counted."""
_FRAMES_TOLD = 12
_CALLBACKS_TOLD = 5
_BLOCKS_LIMIT = 3_000_000
"""So many blocks of memory are searched for loops in a fraction of the probe's time."""


class Tasks:
    """The tasks, and the loops that run them."""

    def __init__(self, threads: Threads) -> None:
        """Look for nothing yet."""
        self._threads = threads
        self._loops: dict[int, Any] = {}
        self._thread_of: dict[int, int] = {}
        self._main_tasks: dict[int, int] = {}
        self.tasks: dict[int, Any] = {}
        """By id; those that are not done."""
        self.chains: dict[int, list[FrameType]] = {}

    def find(self) -> None:
        """Find the loops by what threads run, and all tasks."""
        for ident, stack in self._threads.stacks.items():
            for frame in stack:
                self._look_at(frame, ident)
        asyncio = sys.modules.get("asyncio")
        if asyncio is None:
            return
        running = asyncio._get_running_loop()
        if running is not None:
            self._loops[id(running)] = running
            self._thread_of.setdefault(id(running), self._threads.own)
        kinds = task_types()
        for task in _all_tasks(asyncio, list(self._loops.values())):
            if len(self.tasks) >= _TASKS_LIMIT:
                say("cut", what="tasks", count=1)
                break
            if is_a(task, kinds) and not is_done(task):
                self.tasks[id(task)] = task
                loop = field(task, "_loop")
                self._loops.setdefault(id(loop), loop)

    def tell(self) -> None:
        """Say loops, tasks, what they await and what they hold; the tests' own tasks first."""
        for number, loop in self._loops.items():
            self._tell_loop(number, loop)
        mains = set(self._main_tasks.values())
        order = sorted(self.tasks, key=lambda number: number not in mains)
        alike: dict[tuple[Any, ...], int] = {}
        counts: dict[int, int] = {}
        try:
            for count, number in enumerate(order):
                check_time()
                self._tell_task(number, alike, counts, is_single=count < _TOLD_LIMIT)
        finally:
            for number, more in counts.items():
                say("same", of=number, count=more)

    def _look_at(self, frame: FrameType, ident: int) -> None:
        name, function = frame.f_globals.get("__name__"), frame.f_code.co_name
        if type(name) is not str or not name.startswith("asyncio."):
            return
        if name == "asyncio.base_events" and function == "run_forever":
            loop = frame.f_locals.get("self")
            self._loops[id(loop)] = loop
            self._thread_of[id(loop)] = ident
        elif (name, function) in (("asyncio.base_events", "run_until_complete"), ("asyncio.runners", "run")):
            task = frame.f_locals.get("future" if name == "asyncio.base_events" else "task")
            if is_a(task, task_types()):
                loop = field(task, "_loop")
                self._main_tasks.setdefault(id(loop), id(task))
                self._thread_of.setdefault(id(loop), ident)

    def _tell_loop(self, number: int, loop: object) -> None:
        ready, scheduled = field(loop, "_ready"), field(loop, "_scheduled")
        watched = field(field(loop, "_selector"), "_fd_to_key")
        due = [_callback_name(handle) for handle in list(ready)[:_CALLBACKS_TOLD]] if ready else []
        thread = self._thread_of.get(number, field(loop, "_thread_id"))
        say(
            "loop",
            id=number,
            type=type_name(loop),
            thread=thread if type(thread) is int else None,
            main=self._main_tasks.get(number),
            tasks=sum(field(task, "_loop") is loop for task in self.tasks.values()),
            ready=length_of(ready),
            due=due,
            scheduled=length_of(scheduled),
            fds=sorted(watched)[:100] if type(watched) is dict else [],
        )

    def _tell_task(
        self, number: int, alike: dict[tuple[Any, ...], int], counts: dict[int, int], *, is_single: bool
    ) -> None:
        task = self.tasks[number]
        note = self._threads.note
        frames, _ = chain_of(field(task, "_coro"))
        waiter = field(task, "_fut_waiter")
        wait = await_of(frames, waiter, note)
        key = (
            tuple((frame.f_code, frame.f_lineno) for frame in frames),
            *(str(wait.get(name)) for name in ("kind", "id", "tasks", "fd") if wait is not None),
        )
        known = alike.setdefault(key, number)
        self._tell_holds(number, frames)
        if known != number and not is_single:
            counts[known] = counts.get(known, 0) + 1
            return
        self.chains[number] = frames
        loop = field(task, "_loop")
        say(
            "task",
            id=number,
            name=_name_of(task),
            loop=id(loop),
            is_current=_is_current(task, loop) or _is_running(field(task, "_coro")),
            is_main=self._main_tasks.get(id(loop)) == number,
            coroutine=_coroutine_name(frames, task),
            frames=[place_of(frame) for frame in (*frames[:2], *frames[2:][-_FRAMES_TOLD:])],
            wait=wait,
        )
        if wait is not None and "owner_task" in wait:  # anyio's locks know who has them
            say("hold", resource=wait["id"], task=wait["owner_task"], place=None)

    def _tell_holds(self, number: int, frames: list[FrameType]) -> None:
        for frame in frames:
            for held in held_by(frame):
                self._threads.tell_hold(held.manager, frame, held.line, set(), task=number)

    def tell_futures(self) -> None:
        """Say which task or future each noted future takes its result from."""
        for number, thing in list(self._threads.things.items()):
            if not is_known_future(thing):
                continue
            thread = self._loop_that_is_to_make(thing)
            if thread is not None:
                say("completes", resource=number, thread=thread)
            source = source_of(thing)
            if is_a(source, task_types()):
                say("completes", resource=number, task=id(source))
            elif source is not None:
                say("completes", resource=number, future=self._threads.note(source))

    def _loop_that_is_to_make(self, future: object) -> int | None:
        """Return the thread whose loop has yet to begin with ``run_coroutine_threadsafe``."""
        for number, loop in self._loops.items():
            ready = field(loop, "_ready")
            for handle in list(ready)[:100] if ready else ():
                function = field(handle, "_callback")
                if not is_a(function, types.FunctionType) or function.__module__ != "asyncio.tasks":
                    continue
                cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
                if "future" in cells and cells["future"].cell_contents is future:
                    thread = self._thread_of.get(number)
                    return thread if type(thread) is int else None
        return None


def _all_tasks(asyncio: Any, loops: list[Any]) -> list[Any]:
    found: dict[int, Any] = {}
    module = sys.modules.get("asyncio.tasks")
    for name in ("_all_tasks", "_scheduled_tasks", "_eager_tasks"):
        container = getattr(module, name, None)
        references = getattr(container, "data", None)  # of a WeakSet
        for entry in list(references if references is not None else container or ()):
            task = entry() if references is not None else entry
            if task is not None:
                found[id(task)] = task
    for loop in (*loops, *_other_loops(asyncio, loops)):
        try:  # 3.14 keeps them in lists of its own
            found.update((id(task), task) for task in asyncio.all_tasks(loop))
        except Exception:  # noqa: S112 - of a loop that is none of asyncio's
            continue
    return list(found.values())


def _other_loops(asyncio: Any, known: list[Any]) -> list[Any]:
    """Return the loops that no thread runs, where only they know their tasks."""
    if sys.version_info < (3, 14) or sys.getallocatedblocks() > _BLOCKS_LIMIT:
        return []
    numbers = {id(loop) for loop in known}
    return [loop for loop in instances_of(asyncio.AbstractEventLoop) if id(loop) not in numbers]


def _name_of(task: object) -> str | None:
    for kind in task_types():
        if is_a(task, kind):
            name = kind.get_name(task)  # type: ignore[attr-defined]
            return str.__str__(name) if is_a(name, str) else None
    return None


def _coroutine_name(frames: list[FrameType], task: object) -> str | None:
    if frames:
        return str(place_of(frames[0])[2])
    name = getattr(field(task, "_coro"), "__qualname__", None)
    return name if type(name) is str else None


def _is_running(coroutine: object) -> bool:
    """Tell whether a thread is inside of it: also of a task that has started another loop."""
    return type(coroutine) is types.CoroutineType and coroutine.cr_running


def _is_current(task: object, loop: Any) -> bool:
    try:
        return sys.modules["asyncio"].current_task(loop) is task
    except Exception:  # of a loop that is none of asyncio's
        return False


def _callback_name(handle: object) -> str:
    return function_name(field(handle, "_callback")) or "?"
