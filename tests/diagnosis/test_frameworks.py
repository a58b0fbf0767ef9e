"""Tasks that are none of asyncio's, of a test that hangs."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import pytest
from gencore_archives import read_member
from projects import QUICK, Project

if TYPE_CHECKING:
    from pathlib import Path

TRIO = """
    import trio
    def test_a():
        async def eat(event):
            await event.wait()
        async def take(lock):
            async with lock:
                pass
        async def main():
            lock = trio.Lock()
            async with trio.open_nursery() as nursery:
                await lock.acquire()
                nursery.start_soon(eat, trio.Event(), name="eater")
                nursery.start_soon(take, lock, name="taker")
                nursery.start_soon(trio.sleep, 1000, name="sleeper")
        trio.run(main)
"""


def tasks_of(tmp_path: Path, source: str) -> list[dict[str, Any]]:
    """Return what is told of the tasks of a test that hangs."""
    project = Project(tmp_path)
    project.write(test_a=source)
    running = project.start(*QUICK, "--gencore-timeout=1")
    try:
        (archive,) = project.wait_for_archives()
    finally:
        running.kill()
    project.close()
    tasks: list[dict[str, Any]] = json.loads(read_member(archive, "diagnosis.json"))["tasks"]
    return tasks


@pytest.mark.skipif(importlib.util.find_spec("trio") is None, reason="trio is not installed")
def test_tasks_of_trio(tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, TRIO)
    waits = {task["name"]: task["wait"] and task["wait"]["text"] for task in tasks}
    assert {task["framework"] for task in tasks} == {"trio"}
    assert waits["eater"] == "trio Event.wait()"
    assert waits["taker"] == "trio Lock.__aenter__()"
    assert waits["sleeper"] == "trio.sleep()"


TWISTED = """
    from twisted.internet import defer, reactor
    @defer.inlineCallbacks
    def old_style(never):
        yield never
    async def new_style(never):
        await never
    def remind():
        pass
    def test_a():
        reactor.callLater(1000, remind)
        kept = defer.Deferred(), defer.Deferred()  # else each is a cycle, which the garbage collector takes
        old_style(kept[0])
        defer.ensureDeferred(new_style(kept[1]))
        reactor.run(installSignalHandlers=False)
"""


@pytest.mark.skipif(importlib.util.find_spec("twisted") is None, reason="Twisted is not installed")
def test_deferreds_and_delayed_calls_of_twisted(tmp_path: Path) -> None:
    tasks = tasks_of(tmp_path, TWISTED)
    waits = {task["coroutine"]: task["wait"]["text"] for task in tasks}
    assert {task["framework"] for task in tasks} == {"twisted"}
    assert waits["old_style"] == waits["new_style"] == "the result of a future"
    assert waits["remind"].startswith("its time, 99")
    places = {task["coroutine"]: task["place"] for task in tasks}
    assert places["new_style"][1:] == [7, "new_style"]
