"""Hangs of asyncio: each test is captured at its deadline, then ended by pytest-timeout."""

from __future__ import annotations

import asyncio
import sys
import threading

import anyio
import pytest


async def consume(orders):
    await orders.get()


async def queue_never_filled():
    orders = asyncio.Queue()
    consumer = asyncio.create_task(consume(orders), name="consumer")
    await consumer


def test_queue_never_filled():
    asyncio.run(queue_never_filled())


@pytest.mark.asyncio
async def test_of_pytest_asyncio():
    orders = asyncio.Queue()
    await asyncio.create_task(consume(orders), name="consumer")


def test_lock_of_a_task():
    async def cook(till, taken):
        async with till:
            taken.set()
            await asyncio.Event().wait()

    async def serve():
        till, taken = asyncio.Lock(), asyncio.Event()
        cooking = asyncio.create_task(cook(till, taken), name="cook")
        await taken.wait()
        async with till:
            await cooking

    asyncio.run(serve())


def test_two_tasks():
    async def both(first, second, meeting):
        async with first:
            meeting.append(1)
            while len(meeting) < 2:
                await asyncio.sleep(0)
            async with second:
                pass

    async def main():
        left, right = asyncio.Lock(), asyncio.Lock()
        meeting = []
        tasks = [
            asyncio.create_task(both(left, right, meeting), name="lefty"),
            asyncio.create_task(both(right, left, meeting), name="righty"),
        ]
        await asyncio.gather(*tasks)

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is new in 3.11")
def test_task_group():
    async def child():
        await asyncio.Event().wait()

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(child(), name="child")

    asyncio.run(main())


def test_stream():
    async def silent(reader, writer):
        await asyncio.Event().wait()

    async def main():
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        reader, _ = await asyncio.open_connection(*server.sockets[0].getsockname())
        await reader.readline()

    asyncio.run(main())


def test_thread_of_a_task():
    never = threading.Event()

    async def main():
        try:
            await asyncio.to_thread(never.wait)
        finally:
            never.set()

    asyncio.run(main())


def test_own_loop():
    """A coroutine waits, without awaiting, for another one of its own loop."""

    async def other():
        return 1

    async def main():
        loop = asyncio.get_running_loop()
        asyncio.run_coroutine_threadsafe(other(), loop).result()

    asyncio.run(main())


def test_anyio():
    async def main():
        send, receive = anyio.create_memory_object_stream(1)
        async with anyio.create_task_group() as group:
            group.start_soon(receive.receive, name="receiver")

    anyio.run(main)


def test_wait_for():
    async def main():
        await asyncio.wait_for(asyncio.Event().wait(), 1000)

    asyncio.run(main())
