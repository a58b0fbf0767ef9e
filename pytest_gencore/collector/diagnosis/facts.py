"""What the probe has written, as types; the lines themselves are described in ``pytest_gencore.probe.facts``.

They come from a process in any state: what is not as it should be is left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

_LINES_LIMIT: Final = 20_000
_TEXT_LIMIT: Final = 300


class Place(NamedTuple):
    """A line of source."""

    file: str
    line: int | None
    function: str


class Name(NamedTuple):
    """How a program refers to a resource."""

    text: str
    kind: str
    """``global``, ``attribute`` or ``local``."""
    of: str
    """The module, the class's module or the function."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a thread or task waits for."""

    kind: str
    resource: int | None = None
    """The id of a lock, an event, a queue, a future."""
    ends_with: tuple[int, ...] = ()
    """Ids of the threads, tasks and futures whose end is awaited."""
    timeout: float | None = None
    """Seconds, as they were given; None for ever, or not known."""
    details: dict[str, Any] = field(default_factory=dict)
    """What else the probe tells of this kind."""

    def number(self, name: str) -> int | None:
        """Return a detail that is a number; None if it is not there."""
        value = self.details.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, name: str) -> str:
        """Return a detail that is a text; empty if it is not there."""
        value = self.details.get(name)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Thread:
    """A Python thread."""

    id: int
    name: str | None
    native_id: int | None
    is_own: bool
    """Whether it made the capture."""
    place: Place | None
    project: Place | None
    """Where the innermost frame of the project is."""
    wait: Wait | None


@dataclass(frozen=True, slots=True)
class Task:
    """A task of asyncio or trio, or a greenlet."""

    id: int
    name: str | None
    framework: str
    """``asyncio``, ``trio`` or ``greenlet``."""
    loop: int | None
    is_current: bool
    """Whether it runs, or has called what its thread is inside of."""
    is_main: bool
    """Whether it is what ``run_until_complete`` waits for."""
    coroutine: str | None
    frames: tuple[Place, ...]
    """Outermost first."""
    wait: Wait | None
    alike: int = 0
    """How many more tasks stand where this one does."""


@dataclass(frozen=True, slots=True)
class Loop:
    """An event loop."""

    id: int
    type: str
    thread: int | None
    main: int | None
    tasks: int
    ready: int | None
    due: tuple[str, ...]
    """Names of callbacks that are to run next."""


class Hold(NamedTuple):
    """Somebody has a resource."""

    holder: int
    is_task: bool
    place: Place | None
    """Where the ``with`` statement is."""
    count: int = 1
    """How often it was taken."""


@dataclass(slots=True)
class Facts:
    """Everything that the probe has said."""

    threads: dict[int, Thread] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    loops: dict[int, Loop] = field(default_factory=dict)
    holds: dict[int, list[Hold]] = field(default_factory=dict)
    """By resource."""
    completes: dict[int, list[tuple[str, tuple[int, ...]]]] = field(default_factory=dict)
    """By future: (``thread``, ``task``, ``future`` or ``threads``, ids)."""
    names: dict[int, Name] = field(default_factory=dict)
    gil: str | None = None
    """Who held it: ``own``, ``other``; None for nobody."""
    is_whole: bool = False
    """Whether the probe came to its end."""
    cuts: list[str] = field(default_factory=list)
    problems: int = 0

    @property
    def own(self) -> Thread | None:
        """The thread that made the capture."""
        return next((thread for thread in self.threads.values() if thread.is_own), None)


def parse_facts(data: bytes) -> Facts:
    """Return what the lines say; whatever they are."""
    facts = Facts()
    alike: dict[int, int] = {}
    for line in data.splitlines()[:_LINES_LIMIT]:
        try:
            fact = json.loads(line)
            if isinstance(fact, dict):
                _take(facts, fact, alike)
        except (ValueError, KeyError, TypeError, RecursionError):
            facts.problems += 1
    for number, count in alike.items():
        task = facts.tasks.get(number)
        if task is not None:
            facts.tasks[number] = Task(
                **{name: getattr(task, name) for name in Task.__slots__ if name != "alike"}, alike=count
            )
    return facts


def _take(facts: Facts, fact: dict[str, Any], alike: dict[int, int]) -> None:
    kind = fact["fact"]
    if kind == "thread":
        thread = Thread(
            id=_number(fact["id"]),
            name=_text(fact.get("name")),
            native_id=_optional(fact.get("native_id")),
            is_own=fact.get("is_own") is True,
            place=_place(fact.get("place")),
            project=_place(fact.get("project")),
            wait=_wait(fact.get("wait")),
        )
        facts.threads[thread.id] = thread
    elif kind == "task":
        task = _task(fact)
        facts.tasks[task.id] = task
    elif kind == "loop":
        loop = _loop(fact)
        facts.loops[loop.id] = loop
    elif kind in ("hold", "owner"):
        is_task = "task" in fact
        hold = Hold(
            _number(fact["task" if is_task else "thread"]),
            is_task,
            _place(fact.get("place")),
            _optional(fact.get("count")) or 1,
        )
        facts.holds.setdefault(_number(fact["resource"]), []).append(hold)
    elif kind == "completes":
        for who in ("thread", "task", "future", "threads"):
            if who in fact:
                ids = fact[who] if who == "threads" else [fact[who]]
                numbers = tuple(_number(one) for one in ids)
                facts.completes.setdefault(_number(fact["resource"]), []).append((who, numbers))
    elif kind == "name":
        facts.names[_number(fact["id"])] = Name(
            _text(fact["name"]) or "?", _text(fact.get("kind")) or "", _text(fact.get("of")) or ""
        )
    elif kind == "same":
        alike[_number(fact["of"])] = _number(fact["count"])
    elif kind == "gil":
        facts.gil = _text(fact.get("held_by"))
    elif kind == "end":
        facts.is_whole = True
    elif kind == "cut":
        facts.cuts.append(_text(fact.get("what")) or "?")
    elif kind in ("problem", "failed"):
        facts.problems += 1


def _task(fact: dict[str, Any]) -> Task:
    frames = fact.get("frames")
    places = [_place(frame) for frame in frames[:50]] if isinstance(frames, list) else []
    return Task(
        id=_number(fact["id"]),
        name=_text(fact.get("name")),
        framework=_text(fact.get("framework")) or "asyncio",
        loop=_optional(fact.get("loop")),
        is_current=fact.get("is_current") is True,
        is_main=fact.get("is_main") is True,
        coroutine=_text(fact.get("coroutine")),
        frames=tuple(place for place in places if place is not None),
        wait=_wait(fact.get("wait")),
    )


def _loop(fact: dict[str, Any]) -> Loop:
    due = fact.get("due")
    return Loop(
        id=_number(fact["id"]),
        type=_text(fact.get("type")) or "?",
        thread=_optional(fact.get("thread")),
        main=_optional(fact.get("main")),
        tasks=_optional(fact.get("tasks")) or 0,
        ready=_optional(fact.get("ready")),
        due=tuple(str(name)[:_TEXT_LIMIT] for name in due[:10]) if isinstance(due, list) else (),
    )


def _wait(fact: Any) -> Wait | None:
    if not isinstance(fact, dict) or not isinstance(fact.get("kind"), str):
        return None
    ends: list[int] = []
    for name in ("tasks", "futures"):
        if isinstance(fact.get(name), list):
            ends += [number for number in fact[name][:200] if isinstance(number, int)]
    if isinstance(fact.get("thread"), int):
        ends.append(fact["thread"])
    if isinstance(fact.get("source"), int):
        ends.append(fact["source"])
    timeout = fact.get("timeout")
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    return Wait(
        kind=fact["kind"],
        resource=_optional(fact.get("id")),
        ends_with=tuple(ends),
        timeout=timeout if is_number else None,
        details={name: _cut(value) for name, value in fact.items() if name not in ("kind", "id", "timeout")},
    )


def _cut(value: Any) -> Any:
    return value[:_TEXT_LIMIT] if isinstance(value, (str, list)) else value


def _place(value: Any) -> Place | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    file, line, function = value
    return Place(str(file)[:4096], line if isinstance(line, int) else None, str(function)[:_TEXT_LIMIT])


def _text(value: Any) -> str | None:
    return value[:_TEXT_LIMIT] if isinstance(value, str) else None


def _optional(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value
