"""A test that fails while other threads wait: run it with --gencore-on-fail."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CONSUMERS = 3


def consume(orders: queue.Queue[str]) -> None:
    """Wait for orders until told to stop."""
    while orders.get() != "stop":
        pass


@pytest.fixture
def orders() -> Iterator[queue.Queue[str]]:
    """Give a queue with consumers."""
    queued: queue.Queue[str] = queue.Queue()
    for number in range(CONSUMERS):
        threading.Thread(target=consume, args=(queued,), name=f"consumer-{number}").start()
    yield queued
    for _ in range(CONSUMERS):
        queued.put("stop")


def test_total(orders: queue.Queue[str]) -> None:
    """Fail: the sum is 84."""
    prices = [19, 23, 42]
    orders.put("check")
    assert sum(prices) == 85
