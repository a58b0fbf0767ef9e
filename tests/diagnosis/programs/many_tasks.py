"""Make the loops and tasks that an argument names, and let the probe say what is there."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time

from pytest_gencore.probe import main as probe


def look():
    assert probe.arm()
    probe.run()
    os._exit(0)


async def wait(event):
    await event.wait()


class Hostile(asyncio.tasks._PyTask):
    def __repr__(self):
        time.sleep(1000)

    def get_name(self):
        raise RuntimeError("not for you")


class Loop(asyncio.SelectorEventLoop):
    def __repr__(self):
        time.sleep(1000)


async def many():
    """Also print how many things one pass over the heap has looked for, at most."""
    event = asyncio.Event()
    find, counts = gc.get_referrers, [0]

    def find_and_count(*things):
        counts.append(len(things))
        return find(*things)

    gc.get_referrers = find_and_count
    tasks = [asyncio.ensure_future(wait(event)) for _ in range(10_000)]
    await asyncio.sleep(0)
    probe.arm()
    probe.run()
    print(max(counts), flush=True)
    os._exit(0)
    await asyncio.wait(tasks)


async def hostile():
    loop = asyncio.get_running_loop()
    task = Hostile(wait(asyncio.Event()), loop=loop, name="hostile")
    await asyncio.sleep(0)
    look()
    await task


async def cancelled_group():
    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_soon(look)
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        raise ValueError


async def eager():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    task = asyncio.create_task(wait(asyncio.Event()), name="eager")
    look()
    await task


async def other_thread():
    started = threading.Event()

    async def inner():
        task = asyncio.create_task(wait(asyncio.Event()), name="elsewhere")
        await asyncio.sleep(0)
        started.set()
        await task

    threading.Thread(target=lambda: asyncio.run(inner()), name="second", daemon=True).start()
    started.wait()
    look()


async def closed():
    other = asyncio.new_event_loop()
    task = other.create_task(wait(asyncio.Event()), name="left")
    other.close()
    look()
    await task


def nested():
    """Let a loop run inside of a task of itself, as nest_asyncio does; and inside of that a second loop."""

    async def outer():
        loop = asyncio.get_running_loop()
        waiting = loop.create_task(wait(asyncio.Event()), name="beside")
        task = loop.create_task(inner(), name="inner")
        run_again(loop, task)
        await waiting

    async def inner():
        other = asyncio.new_event_loop()
        deepest = other.create_task(wait(asyncio.Event()), name="deepest")
        other.call_later(0.01, look)
        run_again(other, deepest)

    def run_again(loop, task):
        running, current = asyncio._get_running_loop(), asyncio.current_task()
        asyncio.tasks._leave_task(running, current)
        asyncio._set_running_loop(None)
        thread, loop._thread_id = loop._thread_id, None
        try:
            loop.run_until_complete(task)
        finally:
            loop._thread_id = thread
            asyncio._set_running_loop(running)
            asyncio.tasks._enter_task(running, current)

    asyncio.run(outer())


def subclass():
    loop = Loop()
    task = loop.create_task(wait(asyncio.Event()), name="inside")
    loop.call_soon(look)
    loop.run_until_complete(task)


name = sys.argv[1]
globals()[name]() if name in ("subclass", "nested") else asyncio.run(globals()[name]())
