"""Tasks that are none of asyncio's, of a test that hangs."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

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


@pytest.mark.skipif(importlib.util.find_spec("trio") is None, reason="trio is not installed")
def test_tasks_of_trio(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(test_a=TRIO)
    running = project.start(*QUICK, "--gencore-timeout=1")
    try:
        (archive,) = project.wait_for_archives()
    finally:
        running.kill()
    project.close()
    tasks = json.loads(read_member(archive, "diagnosis.json"))["tasks"]
    waits = {task["name"]: task["wait"] and task["wait"]["text"] for task in tasks}
    assert {task["framework"] for task in tasks} == {"trio"}
    assert waits["eater"] == "trio Event.wait()"
    assert waits["taker"] == "trio Lock.__aenter__()"
    assert waits["sleeper"] == "trio.sleep()"
