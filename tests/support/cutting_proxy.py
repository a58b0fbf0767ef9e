"""A proxy on loopback that cuts its connections once, after so many bytes have passed, and counts them."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

_PIECE = 64 << 10
_TICK_SECONDS = 0.1


class CuttingProxy:
    """Passes on what it gets; after ``cut_after`` bytes to the server all connections are reset, once."""

    def __init__(self, port: int, *, cut_after: int) -> None:
        """``port`` is the server's."""
        self.passed = 0
        """Bytes to the server."""
        self.cuts = 0
        self._port = port
        self._cut_after = cut_after
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._ends.set()
        self._thread.join()
        self._drop()
        self._listener.close()

    def _run(self) -> None:
        while not self._ends.is_set():
            ways = {one: other for pair in self._pairs for one, other in (pair, pair[::-1])}
            ready, _, _ = select.select([self._listener, *ways], [], [], _TICK_SECONDS)
            for source in ready:
                if source is self._listener:
                    client, _ = self._listener.accept()
                    self._pairs.append((client, socket.create_connection(("127.0.0.1", self._port))))
                elif not self._pass(source, ways[source]):
                    break

    def _pass(self, source: socket.socket, target: socket.socket) -> bool:
        """Pass a piece on; False if connections are gone."""
        try:
            data = source.recv(_PIECE)
            target.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(source)
            return False
        if any(source is client for client, _ in self._pairs):
            self.passed += len(data)
            if not self.cuts and self.passed >= self._cut_after:
                self.cuts += 1
                self._drop()
                return False
        return True

    def _drop(self, one: socket.socket | None = None) -> None:
        for pair in [pair for pair in self._pairs if one is None or one in pair]:
            self._pairs.remove(pair)
            for end in pair:
                with contextlib.suppress(OSError):
                    end.close()
