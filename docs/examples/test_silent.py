"""A server that accepts and never answers: run it with a timeout, it hangs."""

from __future__ import annotations

import socket


def test_ask() -> None:
    """Hang."""
    server = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(server.getsockname()) as client:
        client.sendall(b"hello\n")
        client.recv(100)
