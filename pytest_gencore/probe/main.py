"""Arm the probe; and what it does in the copy, step by step."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_gencore.probe.facts import OutOfTimeError, say, start
from pytest_gencore.probe.frameworks import tell_frameworks
from pytest_gencore.probe.names import tell_names
from pytest_gencore.probe.tasks import Tasks
from pytest_gencore.probe.threads import Threads
from pytest_gencore.probe.twisted import tell_twisted
from pytest_gencore.probe.values import find_layout

if TYPE_CHECKING:
    from collections.abc import Callable

NEWEST = (3, 15)
"""The last version of CPython that this was tried on."""


def arm() -> bool:
    """Let later captures look for what everything waits for; tell whether that can be done here."""
    is_known = sys.implementation.name == "cpython" and sys.version_info[:2] <= NEWEST
    if not is_known or not find_layout():
        return False
    from pytest_gencore.capture import _native  # it is there: the layout was found with it

    return _native.arm_probe(run, round(sys.getswitchinterval() * 1e6), sys.version_info[1])


def run() -> None:
    """Say everything; in a copy of the snapshot."""
    sys.settrace(None)
    sys.setprofile(None)
    start()
    tell_all(Threads())


def tell_all(threads: Threads) -> None:
    """Say everything of these threads."""
    tasks = Tasks(threads)
    steps: list[Callable[[], None]] = [
        threads.tell,
        threads.tell_holds,
        threads.tell_workers,
        tasks.find,
        tasks.tell,
        tasks.tell_futures,
        lambda: tell_names(threads, tasks),
        lambda: tell_frameworks(threads),
        tell_twisted,
    ]
    for number, step in enumerate(steps):
        try:
            step()
        except OutOfTimeError:
            say("cut", what="time", count=len(steps) - number)
            return
        except Exception as error:  # memory seen in the middle of a change: the next step may still work
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            line = trace.tb_lineno if trace is not None else 0
            say("problem", step=number, error=type(error).__name__, line=line)
