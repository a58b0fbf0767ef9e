"""Threads: their names, what each waits for, and what each holds."""

from __future__ import annotations

import _thread
import gc
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.facts import check_time, is_project, place_of, say
from pytest_gencore.probe.reading import field, fields_of, is_a, module_name, type_name
from pytest_gencore.probe.values import held_by
from pytest_gencore.probe.waits import inner_lock, keeps_alive, lock_facts, wait_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

_THREADS_LIMIT = 1000
_HOLDS_LIMIT = 1000
_STACK_LIMIT = 2000


class Threads:
    """All Python threads of the process."""

    def __init__(self, tops: Mapping[int, FrameType] | None = None, own: int = 0) -> None:
        """Look for nothing yet; ``tops``, ``own``: other threads' innermost frames, and the test's thread.

        Usually that is the one that calls this.
        """
        self.own: int = own or _thread.get_ident()
        self._tops = tops
        self.stacks: dict[int, list[FrameType]] = {}
        """Innermost frame first; of those that were told."""
        self.things: dict[int, Any] = {}
        """Resources that are to be named, by id."""
        self._holds = 0

    def note(self, thing: object) -> int:
        """Remember a resource and return its id."""
        self.things[id(thing)] = thing
        return id(thing)

    def tell(self) -> None:
        """Say each thread with what it waits for, before the next is read: that may be the last thing."""
        frames = sys._current_frames() if self._tops is None else self._tops
        self._tell_thread(self.own, _below_the_probe() if self._tops is None else frames.get(self.own))
        others = [ident for ident in frames if ident != self.own]
        for ident in others[: _THREADS_LIMIT - 1]:
            check_time()
            self._tell_thread(ident, frames[ident])
        if len(frames) > _THREADS_LIMIT:
            say("cut", what="threads", count=len(frames) - _THREADS_LIMIT)

    def _tell_thread(self, ident: int, frame: FrameType | None) -> None:
        thread = threading._active.get(ident)  # type: ignore[attr-defined] # enumerate() takes a lock
        stack = self.stacks[ident] = _stack_of(frame)
        try:
            wait = wait_of(stack, self.note)
        except Exception as error:  # memory seen in the middle of a change
            wait = None
            say("problem", step="wait", error=type(error).__name__)
        project = next((frame for frame in stack if is_project(frame)), None)
        say(
            "thread",
            id=ident,
            native_id=field(thread, "_native_id"),
            name=None if thread is None else str(field(thread, "_name", "")),
            is_own=ident == self.own,
            keeps_alive=keeps_alive(thread),
            place=place_of(stack[0]) if stack else None,
            project=None if project is None else place_of(project),
            wait=wait,
            # Perhaps one of another interpreter: of those nobody else knows the stack.
            frames=[place_of(frame) for frame in stack] if thread is None else [],
        )

    def tell_holds(self) -> None:
        """Say what the ``with`` statements of each thread hold, and what owners locks know."""
        for ident, stack in self.stacks.items():
            waits_for = _waiting_conditions(stack)
            for frame in stack:
                check_time()
                for held in held_by(frame):
                    self.tell_hold(held.manager, frame, held.line, waits_for, thread=ident)
        for thing in list(self.things.values()):
            lock = inner_lock(thing)
            if lock is None:
                continue
            facts = lock_facts(lock)
            if facts.get("owner"):
                say("owner", resource=id(lock), thread=facts["owner"], count=facts["count"])

    def tell_hold(
        self, manager: object, frame: FrameType, line: int | None, waits_for: set[int], **holder: int
    ) -> None:
        """Say that a ``with`` statement holds something, if it is a lock or the like."""
        lock = inner_lock(manager)
        resource = manager if lock is None else lock
        is_known = lock is not None or is_a(manager, threading.Semaphore) or _is_async_lock(manager)
        if not is_known or id(manager) in waits_for or self._holds >= _HOLDS_LIMIT:
            return
        self._holds += 1
        file, _, function = place_of(frame)
        say("hold", resource=self.note(resource), place=[file, line, function], **holder)

    def tell_workers(self) -> None:
        """Say which thread runs which job of an executor, and who may take those that wait."""
        workers: dict[int, list[int]] = {}
        queues: dict[int, Any] = {}
        sizes: dict[int, Any] = {}
        for ident, stack in self.stacks.items():
            for frame in stack:
                if frame.f_globals.get("__name__") != "concurrent.futures.thread":
                    continue
                if frame.f_code.co_name == "run":
                    future = field(frame.f_locals.get("self"), "future")
                    if future is not None:
                        say("completes", resource=self.note(future), thread=ident)
                elif frame.f_code.co_name == "_worker":
                    jobs = frame.f_locals.get("work_queue")
                    reference = frame.f_locals.get("executor_reference")
                    executor = reference() if type(reference) is weakref.ref else None
                    workers.setdefault(id(jobs), []).append(ident)
                    queues[id(jobs)] = jobs
                    sizes[id(jobs)] = field(executor, "_max_workers")
        for number, jobs in queues.items():
            if sizes[number] != len(workers[number]):
                continue  # it may start another one
            for future in _pending_futures(jobs):
                say("completes", resource=self.note(future), threads=workers[number])


def _pending_futures(jobs: object) -> list[Any]:
    items: list[Any] = []
    for referent in gc.get_referents(jobs):
        items += referent if type(referent) is list else [referent]
    futures = [field(item, "future") for item in items[:1000] if type_name(item) == "_WorkItem"]
    return [future for future in futures if future is not None]


def _below_the_probe() -> Any:
    """Return the frame that the captured thread was in."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    return frame


def _stack_of(frame: FrameType | None) -> list[FrameType]:
    stack: list[FrameType] = []
    while frame is not None and len(stack) < _STACK_LIMIT:
        stack.append(frame)
        frame = frame.f_back
    return stack


def _waiting_conditions(stack: list[FrameType]) -> set[int]:
    """Return the conditions that a thread waits for: it has given their locks back meanwhile."""
    return {
        id(frame.f_locals.get("self"))
        for frame in stack[:4]
        if frame.f_globals.get("__name__") == "threading" and frame.f_code.co_name == "wait"
    }


def _is_async_lock(thing: object) -> bool:
    library = module_name(thing).partition(".")[0]
    return library in ("asyncio", "anyio", "trio") and "_waiters" in fields_of(thing)
