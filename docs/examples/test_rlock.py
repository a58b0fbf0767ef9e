"""Two objects with a lock each, that call each other: run it with a timeout, it hangs."""

from __future__ import annotations

import threading


class Account:
    """Only one thread at a time may change it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def send(self, other: Account, both: threading.Barrier) -> None:
        """Keep the lock while the other one receives."""
        with self.lock:
            both.wait()
            other.receive()

    def receive(self) -> None:
        """Take the lock."""
        with self.lock:
            pass


def test_send_both_ways() -> None:
    """Hang."""
    mine, yours, both = Account(), Account(), threading.Barrier(2)
    threading.Thread(target=yours.send, args=(mine, both), name="refund", daemon=True).start()
    mine.send(yours, both)
