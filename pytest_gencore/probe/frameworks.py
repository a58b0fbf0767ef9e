"""Tasks that are none of asyncio's: of trio, and greenlets of gevent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.chains import chain_of
from pytest_gencore.probe.facts import check_time, place_of, say
from pytest_gencore.probe.reading import field, instances_of, type_name

if TYPE_CHECKING:
    from types import FrameType

    from pytest_gencore.probe.threads import Threads

TOLD_LIMIT = 500
_FRAMES_TOLD = 12


def tell_frameworks(threads: Threads) -> None:
    """Say what is there of each."""
    runners: dict[int, tuple[Any, int]] = {}
    for ident, stack in threads.stacks.items():
        for frame in stack:
            # The second one is a generator: it is not on the stack while trio waits for events.
            is_trio = frame.f_globals.get("__name__") == "trio._core._run"
            if is_trio and frame.f_code.co_name in ("run", "unrolled_run"):
                runner = frame.f_locals.get("runner")
                runners[id(runner)] = runner, ident
    for runner, ident in runners.values():
        _tell_trio(runner, ident)
    if "greenlet" in sys.modules:
        _tell_greenlets(threads)


def say_task(
    thing: object,
    framework: str,
    frames: list[FrameType],
    *,
    name: str | None = None,
    coroutine: str | None = None,
    wait: dict[str, Any] | None = None,
    **details: Any,
) -> None:
    """Say one task; ``frames``: its stack, the innermost last, of which the end is told."""
    say(
        "task",
        id=id(thing),
        name=name,
        framework=framework,
        coroutine=coroutine,
        frames=[place_of(frame) for frame in frames[-_FRAMES_TOLD:]],
        wait=wait,
        **details,
    )


def _tell_trio(runner: object, thread: int) -> None:
    root = field(runner, "init_task")
    work: list[tuple[Any, int | None]] = [(root, None)]
    told = 0
    while work and told < TOLD_LIMIT:
        check_time()
        task, parent = work.pop()
        if task is None:
            continue
        told += 1
        frames, _ = chain_of(field(task, "coro"))
        name = field(task, "name")
        say_task(
            task,
            "trio",
            frames,
            name=name if type(name) is str else None,
            thread=thread,
            parent=parent,
            coroutine=place_of(frames[0])[2] if frames else None,
            wait=_trio_wait(frames),
        )
        for nursery in list(field(task, "_child_nurseries") or ()):
            work += [(child, id(task)) for child in list(field(nursery, "_children") or ())]


def _trio_wait(frames: list[FrameType]) -> dict[str, Any] | None:
    """Return the outermost call of trio's own that the innermost frame of somebody else made."""
    found = None
    for frame in reversed(frames):
        if not str(frame.f_globals.get("__name__")).startswith(("trio.", "outcome")):
            break
        found = frame
    if found is None:
        return None
    owner = found.f_locals.get("self")
    name = found.f_code.co_name
    return {
        "kind": "call",
        "call": f"trio {type_name(owner)}.{name}" if owner is not None else f"trio.{name}",
    }


def _tell_greenlets(threads: Threads) -> None:
    kind = getattr(sys.modules["greenlet"], "greenlet", None)
    if type(kind) is not type:
        return
    told = 0
    for thing in instances_of(kind):
        frame = thing.gr_frame
        if frame is None or told >= TOLD_LIMIT:
            continue
        check_time()
        told += 1
        frames: list[FrameType] = []
        while frame is not None and len(frames) < 1000:
            frames.append(frame)
            frame = frame.f_back
        say_task(thing, "greenlet", frames[::-1], type=type_name(thing))
