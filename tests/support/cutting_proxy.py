"""A proxy on loopback that cuts its connections once, after so many bytes, and is away for a moment then."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time

_PIECE = 64 << 10
_TICK_SECONDS = 0.1
_AWAY_SECONDS = 2.0


class CuttingProxy:
    """Passes on what it gets; after ``cut_after`` bytes to the server all connections are cut, once,
    and new ones refused for two seconds: what a library tries again at once fails, too."""

    def __init__(self, port: int, *, cut_after: int) -> None:
        """``port`` is the server's."""
        self.passed = 0
        """Bytes to the server."""
        self.cuts = 0
        self._back_at = 0.0
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
            if time.monotonic() < self._back_at:
                time.sleep(_TICK_SECONDS)
                continue
            if self._listener.fileno() < 0:
                self._listener = socket.create_server(("127.0.0.1", self.port))
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
                self._listener.close()
                self._back_at = time.monotonic() + _AWAY_SECONDS
                self._drop()
                return False
        return True

    def _drop(self, one: socket.socket | None = None) -> None:
        for pair in [pair for pair in self._pairs if one is None or one in pair]:
            self._pairs.remove(pair)
            for end in pair:
                with contextlib.suppress(OSError):
                    end.close()
