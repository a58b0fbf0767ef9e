"""A gateway of our own to another host, beside those of pytest-xdist, on which tests run.

A worker cannot be asked while it runs a test: execnet runs one program at a time there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gencore.errors import name_error
from pytest_gencore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_END_SECONDS = 5.0
_SERVER_SECONDS = 2.0
"""For a server of sockets that begins again after a worker has crashed."""
_TICK_SECONDS = 0.1
_QUIETLY = "-o BatchMode=yes -o ConnectTimeout=20"
"""See ssh_config(5)."""
_SOURCE = """
import sys
version, paths = channel.receive()
sys.path.extend(path for path in paths if path not in sys.path)
try:
    from pytest_gencore.version import __version__
    if __version__ != version:
        raise ImportError(f"pytest-gencore there is {__version__}, here {version}")
    from pytest_gencore.hosts.agent import serve
except ImportError as error:
    channel.send(("refused", str(error)))
else:
    serve(channel)
"""


class Connection:
    """Is made on a thread, which calls ``take`` with each message, and with None when no more come."""

    def __init__(
        self, specs: Sequence[str], paths: Sequence[str], take: Callable[[tuple[Any, ...] | None], None]
    ) -> None:
        """``specs``: as ``--tx`` has them, of the host and before it of those that lead there.

        ``paths`` are for ``sys.path`` there, behind its own.
        """
        self._specs = specs
        self._paths = tuple(paths)
        self._take = take
        self._channel: Any = None
        self._group: Any = None
        self._is_wanted = True
        self._thread: threading.Thread | None = None

    def open(self, *first: Any) -> None:
        """Begin to connect; ``first`` is the first message. Nobody waits here."""
        self._thread = threading.Thread(target=self._connect, args=(first,), name="gencore-host", daemon=True)
        self._thread.start()

    def send(self, *message: Any) -> bool:
        """Send a message, if there is a connection; tell whether there is."""
        with contextlib.suppress(OSError):
            if self._channel is not None:
                self._channel.send(message)
                return True
        return False

    def close(self) -> None:
        """End the connection and the process at the other end."""
        self._is_wanted = False
        if self._group is not None:
            with contextlib.suppress(Exception):  # whatever has become of it
                self._group.terminate(timeout=_END_SECONDS)
        if self._thread is not None and self._thread.is_alive():  # of a gateway that begins no group knows
            end_children(self._thread)

    def _connect(self, first: tuple[Any, ...]) -> None:
        if hasattr(signal, "pthread_sigmask"):  # for ssh: Ctrl-C at the terminal is not for it
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            import execnet

            self._group = execnet.Group()
            gateway: Any = None
            for spec in self._specs:
                gateway = self._make_gateway(spec)
            channel = gateway.remote_exec(_SOURCE)
            channel.send((__version__, self._paths))
            channel.send(first)
            self._channel = channel
            channel.setcallback(self._take, endmarker=None)
        except Exception as error:  # noqa: BLE001 - the run goes on without this host
            self._take(("refused", f"it cannot be reached: {name_error(error)}"))

    def _make_gateway(self, spec: str) -> Any:
        deadline = time.monotonic() + _SERVER_SECONDS
        while self._is_wanted:
            try:
                return self._group.makegateway(make_quiet(spec))
            except ConnectionRefusedError:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_TICK_SECONDS)
        raise ConnectionAbortedError


def make_quiet(spec: str) -> str:
    """Return the spec of a gateway whose ssh never asks anybody: pytest has the terminal."""
    parts = spec.split("//")
    return "//".join(
        part.replace("ssh=", f"ssh={_QUIETLY} ", 1) if part.startswith("ssh=") else part for part in parts
    )


def end_children(thread: threading.Thread) -> None:
    """End the processes that a thread has started, where the kernel tells which, see proc(5)."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/self/task/{thread.native_id}/children").read_text()
        for pid in map(int, children.split()):
            os.kill(pid, signal.SIGTERM)
