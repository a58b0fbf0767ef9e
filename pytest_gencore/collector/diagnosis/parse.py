"""Make facts of the lines that the probe has written; what is not as it should be is left out."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.collector.diagnosis.facts import Facts, Hold, Loop, Name, Place, Task, Thread, Wait
from pytest_gencore.installed import plain_path
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LINES_LIMIT: Final = 20_000
_TEXT_LIMIT: Final = 300
_ENDS_LIMIT: Final = 20_000
_KIND: Final = re.compile(r"[a-z_]{1,30}")
_NUMBERS: Final = range(-(2**63), 2**64)


def parse_facts(data: bytes, tids: Mapping[int, int] | None = None) -> Facts:
    """Return what the lines say; whatever they are.

    ``tids``: the kernel's ids of threads, by what ``threading.get_ident`` gives, as far as they are known.
    """
    facts = Facts()
    for line in data.splitlines()[:_LINES_LIMIT]:
        facts.problems += not _take(facts, line)
    for number, tid in (tids or {}).items():
        if number in facts.threads:
            facts.threads[number] = facts.threads[number]._replace(native_id=tid)
    return facts


def _take(facts: Facts, line: bytes) -> bool:
    """Take one line; tell whether it is a fact."""
    try:
        fact = _decode(line.decode(errors="replace"))
        taker = _TAKERS.get(fact["fact"])
        if taker is not None:
            taker(facts, fact)
    except (ValueError, KeyError, TypeError, RecursionError):  # also of no object, of NaN, of 1e999
        return False
    return taker is not None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


_decode: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_finite).decode


def _take_thread(facts: Facts, fact: dict[str, Any]) -> None:
    number = _number(fact["id"])
    facts.threads[number] = Thread(
        id=number,
        name=_text(fact.get("name")),
        native_id=_optional(fact.get("native_id")),
        is_own=fact.get("is_own") is True,
        keeps_alive=fact.get("keeps_alive") is True,
        place=_place(fact.get("place")),
        project=_place(fact.get("project")),
        wait=_wait(fact.get("wait")),
        frames=_frames(fact, 100),
    )


def _take_task(facts: Facts, fact: dict[str, Any]) -> None:
    task = _task(fact)
    facts.tasks[task.id] = task


def _take_loop(facts: Facts, fact: dict[str, Any]) -> None:
    loop = _loop(fact)
    facts.loops[loop.id] = loop


def _take_hold(facts: Facts, fact: dict[str, Any]) -> None:
    is_task = "task" in fact
    holder = _number(fact["task" if is_task else "thread"])
    hold = Hold(holder, is_task, _place(fact.get("place")), _optional(fact.get("count")) or 1)
    facts.holds.setdefault(_number(fact["resource"]), []).append(hold)


def _take_completes(facts: Facts, fact: dict[str, Any]) -> None:
    for who in ("thread", "task", "future", "threads"):
        if who in fact:
            ids = fact[who] if who == "threads" else [fact[who]]
            numbers = tuple(_number(one) for one in ids)
            facts.completes.setdefault(_number(fact["resource"]), []).append((who, numbers))


def _take_name(facts: Facts, fact: dict[str, Any]) -> None:
    name = Name(_text(fact["name"]) or "?", _text(fact.get("kind")) or "", _text(fact.get("of")) or "")
    facts.names[_number(fact["id"])] = name


def _take_same(facts: Facts, fact: dict[str, Any]) -> None:
    number, count = _number(fact["of"]), _number(fact["count"])
    if number in facts.tasks:  # it comes after the task
        facts.tasks[number] = facts.tasks[number]._replace(alike=count)


def _take_gil(facts: Facts, fact: dict[str, Any]) -> None:
    facts.gil = _text(fact.get("held_by"))


def _take_end(facts: Facts, fact: dict[str, Any]) -> None:
    facts.is_whole = True


def _take_cut(facts: Facts, fact: dict[str, Any]) -> None:
    facts.cuts.append(_text(fact.get("what")) or "?")


def _take_problem(facts: Facts, fact: dict[str, Any]) -> None:
    facts.problems += 1


_TAKERS: Final[dict[str, Callable[[Facts, dict[str, Any]], None]]] = {
    "thread": _take_thread,
    "task": _take_task,
    "loop": _take_loop,
    "hold": _take_hold,
    "owner": _take_hold,
    "completes": _take_completes,
    "name": _take_name,
    "same": _take_same,
    "gil": _take_gil,
    "end": _take_end,
    "cut": _take_cut,
    "problem": _take_problem,
    "failed": _take_problem,
}


def _task(fact: dict[str, Any]) -> Task:
    return Task(
        id=_number(fact["id"]),
        name=_text(fact.get("name")),
        framework=_text(fact.get("framework")) or "asyncio",
        loop=_optional(fact.get("loop")),
        is_current=fact.get("is_current") is True,
        is_main=fact.get("is_main") is True,
        coroutine=_text(fact.get("coroutine")),
        frames=_frames(fact, 50),
        wait=_wait(fact.get("wait")),
    )


def _frames(fact: dict[str, Any], limit: int) -> tuple[Place, ...]:
    frames = fact.get("frames")
    places = [_place(frame) for frame in frames[:limit]] if isinstance(frames, list) else []
    return tuple(place for place in places if place is not None)


def _loop(fact: dict[str, Any]) -> Loop:
    due = fact.get("due")
    return Loop(
        id=_number(fact["id"]),
        type=_text(fact.get("type")) or "?",
        thread=_optional(fact.get("thread")),
        main=_optional(fact.get("main")),
        tasks=_optional(fact.get("tasks")) or 0,
        ready=_optional(fact.get("ready")),
        due=tuple(_text(str(name)) or "" for name in due[:10]) if isinstance(due, list) else (),
    )


def _wait(fact: Any) -> Wait | None:
    if not isinstance(fact, dict) or not isinstance(fact.get("kind"), str):
        return None
    if not _KIND.fullmatch(fact["kind"]):
        return None
    ends: list[int] = []
    for name in ("tasks", "futures"):
        if isinstance(fact.get(name), list):
            ends += [number for number in fact[name][:_ENDS_LIMIT] if isinstance(number, int)]
    if isinstance(fact.get("thread"), int):
        ends.append(fact["thread"])
    if isinstance(fact.get("source"), int):
        ends.append(fact["source"])
    timeout: Any = fact.get("timeout")
    is_number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    return Wait(
        kind=fact["kind"],
        resource=_optional(fact.get("id")),
        ends_with=tuple(ends),
        timeout=timeout if is_number and abs(timeout) < _NUMBERS.stop else None,
        details={name: _cut(value) for name, value in fact.items() if name not in ("kind", "id", "timeout")},
    )


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return _text(value)
    return value[:_TEXT_LIMIT] if isinstance(value, list) else value


def _place(value: Any) -> Place | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    file, line, function = value
    return Place(
        plain_path(str(file))[:4096], line if isinstance(line, int) else None, str(function)[:_TEXT_LIMIT]
    )


def _text(value: Any) -> str | None:
    return escape_unprintable(value[:_TEXT_LIMIT]) if isinstance(value, str) else None


def _optional(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and value in _NUMBERS else None


def _number(value: Any) -> int:
    number = _optional(value)
    if number is None:
        raise TypeError
    return number
