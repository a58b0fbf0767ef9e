"""A task that waits for an item which nobody will ever put: run it with a timeout, it hangs."""

from __future__ import annotations

import asyncio


async def consume(orders: asyncio.Queue[int]) -> int:
    """Take one order."""
    return await orders.get()


async def serve() -> None:
    """Start a consumer, and wait for it."""
    orders: asyncio.Queue[int] = asyncio.Queue()
    consumer = asyncio.create_task(consume(orders), name="consumer")
    await consumer


def test_serve() -> None:
    """Hang."""
    asyncio.run(serve())
