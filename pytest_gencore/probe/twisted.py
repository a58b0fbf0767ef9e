"""What Twisted has under way: coroutines that wait for a Deferred, and calls for later."""

from __future__ import annotations

import sys
import time
import types
from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.chains import chain_of
from pytest_gencore.probe.facts import check_time
from pytest_gencore.probe.frameworks import TOLD_LIMIT, say_task
from pytest_gencore.probe.reading import field, function_name, instances_of, is_a

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEPS = (types.GeneratorType, types.CoroutineType)


def tell_twisted() -> None:
    """Say what waits for a Deferred by ``yield`` or ``await``, then what the reactor will call later.

    Deferreds that only have callbacks are not told: what they are for cannot be known.
    """
    kind = getattr(sys.modules.get("twisted.internet.defer"), "Deferred", None)
    if kind is None or not is_a(kind, type):
        return
    told = 0
    for deferred in instances_of(kind):
        for step in _waiting(deferred) if told < TOLD_LIMIT and not field(deferred, "called") else ():
            check_time()
            told += 1
            frames, _ = chain_of(step)
            name = frames[0].f_code.co_name if frames else None
            wait: dict[str, Any] = {"kind": "future", "id": id(deferred)}
            say_task(step, "twisted", frames, coroutine=name, wait=wait)
    reactor = sys.modules.get("twisted.internet.reactor")
    now = time.time()
    for name in ("_pendingTimedCalls", "_newTimedCalls"):
        calls = field(reactor, name)
        for call in calls[:TOLD_LIMIT] if type(calls) is list else ():
            check_time()
            due = field(call, "time")
            if not field(call, "cancelled") and not field(call, "called") and type(due) is float:
                wait = {"kind": "sleep", "left": round(max(0.0, due - now), 1)}
                say_task(call, "twisted", [], coroutine=function_name(field(call, "func")), wait=wait)


def _waiting(deferred: object) -> Iterator[Any]:
    """Yield the generators and coroutines that a Deferred will go on with: arguments of its callbacks."""
    chain = field(deferred, "_callbacks") or field(deferred, "callbacks")
    for entry in chain[:10] if type(chain) is list else ():
        for argument in entry[0][1] or ():
            if type(argument) in _STEPS:
                yield argument
