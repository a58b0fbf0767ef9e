"""Reading a store that does not answer, or whose connections are cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import needs

from pytest_gencore.errors import StoreError
from pytest_gencore.store import opening, stored

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = stored.File("s3://bucket/core_20261121.225921.9520.001.tar.gz", 5)


class ReadTimeoutError(Exception):
    """As botocore's is called."""


class Failing:
    """A store that gives one file after some errors."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0

    def cat_file(self, _path: str, start: int, end: int) -> bytes:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return b"bytes"[start:end]

    def cat_ranges(self, paths: list[str], starts: list[int], ends: list[int], on_error: str) -> list[Any]:
        assert (len(paths), on_error) == (1, "return")
        try:
            return [self.cat_file(paths[0], starts[0], ends[0])]
        except Exception as error:  # noqa: BLE001 - as fsspec
            return [error]


class Silent:
    """A server on loopback that answers nothing, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for end in (self._listener, *self._clients):
            end.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # that of ``close``
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                self.asked += 1


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    """Return a server that answers nothing, where botocore finds it, and shorten what it is waited for."""
    server = Silent()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setitem(opening._OPTIONS["s3"]["config_kwargs"], "read_timeout", 0.1)
    yield server
    server.close()


def make_store(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> tuple[stored.Store, Failing]:
    files = Failing(*errors)
    monkeypatch.setattr(stored, "open_store", lambda url: (files, "bucket"))
    return stored.Store("s3://bucket"), files


@needs("s3")
def test_a_server_that_does_not_answer(silent: Silent) -> None:
    """botocore asks twice, and nobody else asks again: each time can take a minute."""
    with pytest.raises(StoreError, match="timeout"):
        stored.Store("s3://bucket").read_range(FILE.url, 0, 5)
    assert silent.asked == 2


@pytest.mark.parametrize("error", [ReadTimeoutError("no answer"), asyncio.TimeoutError("no answer")])
def test_a_head_that_was_not_answered(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    store, files = make_store(monkeypatch, error)
    (archive,) = store.read_heads([FILE])
    for _ in range(2):
        with pytest.raises(StoreError, match="no answer"):
            archive.read_range(0, 5)
    assert files.asked == 1


def test_a_connection_that_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    store, files = make_store(monkeypatch, *(ConnectionResetError("cut") for _ in range(2)))
    (archive,) = store.read_heads([FILE])
    assert archive.read_range(0, 5) == b"bytes"
    assert files.asked == 3


@pytest.mark.parametrize(
    ("error", "asked"), [(ReadTimeoutError("why"), 1), (PermissionError("why"), 1), (OSError("why"), 2)]
)
def test_what_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, error: Exception, asked: int) -> None:
    store, files = make_store(monkeypatch, error, error)
    with pytest.raises(StoreError, match="why"):
        store.read_range(FILE.url, 0, 5)
    assert files.asked == asked
