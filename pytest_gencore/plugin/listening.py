"""A controller of pytest-xdist listens to its workers: each message is progress of the run.

What it was told of each worker lives in memory only (csrc/workers.c); a collector reads it from the snapshot.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.machine.process import has_ended
from pytest_gencore.plugin.lostworkers import find_process

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT = "collectionstart"
"""A message that the controller of pytest-xdist passes over, however often it comes."""
ENDS = frozenset({"logfinish", "collectionfinish", "workerfinished"})
"""Messages after which a worker runs no test, and collects none."""
COLLECTION = b""
"""Stands for the name of a test while they are collected."""


class Listening:
    """A plugin of the controller, registered only if the run has a deadline for progress.

    Hooks of pytest-xdist do not name the worker of a test that begins. So its messages are looked at when
    they come; hooks say when the controller itself gets to them.
    """

    def __init__(self, native: Any, note_progress: Callable[[], None]) -> None:
        """``note_progress`` is called for each message."""
        self._native = native
        self._note = note_progress
        self._ears: dict[str, _Ear] = {}

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Listen to a worker from its start on; as far as the private parts that this needs are known."""
        self._note()
        name = node.gateway.id
        for ended in [name for name, ear in self._ears.items() if ear.has_ended()]:
            self._ears.pop(ended).close()
        with contextlib.suppress(Exception):  # the run goes on as it would without us
            ear = _Ear(self._native, name, find_local_process(node), node.process_from_remote)
            node.process_from_remote = ear.hear
            self._ears[name] = ear

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Expect nothing more of a worker; its process may take a while to end."""
        self._note()
        ear = self._ears.get(node.gateway.id)
        if ear is not None:
            ear.dismiss()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_xdist_newgateway(self) -> None:
        """Take notice of a worker that is being started."""
        self._note()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_testnodeready(self) -> None:
        """Take notice of a message."""
        self._note()

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """Take notice of a message."""
        self._note()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self) -> None:
        """Take notice of a message."""
        self._note()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """Take notice of a message."""
        self._note()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """Take notice of a message."""
        self._note()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logfinish(self) -> None:
        """Take notice of a message."""
        self._note()

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self) -> None:
        """Take notice of a message."""
        self._note()

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self) -> None:
        """Take notice of a message."""
        self._note()

    def close(self) -> None:
        """Forget all workers."""
        while self._ears:
            self._ears.popitem()[1].close()


class _Ear:
    """Takes down what one worker says, on the thread that receives it."""

    def __init__(self, native: Any, name: str, pid: int, process: Callable[[Any], None]) -> None:
        """``pid``: 0 for a worker on another machine; ``process``: what takes each message."""
        self._native = native
        self._process = process
        self._is_there = True
        self._descriptor = -1
        if pid:
            self._descriptor = os.pidfd_open(pid)
        try:
            self._number: int | None = native.add_worker(name, pid, self._descriptor)
        except OSError:  # too many: this one is not watched
            self._number = None

    def hear(self, event: Any) -> None:
        """Take it down, and pass it on; the end of all messages is no message."""
        if self._is_there and isinstance(event, tuple):
            try:  # noqa: SIM105 - for each message, and the other way takes longer
                self._take_down(*event)
            except Exception:  # noqa: BLE001, S110 - the run goes on as it would without us
                pass
        self._process(event)

    def _take_down(self, name: str, arguments: dict[str, Any]) -> None:
        if name == HEARTBEAT:
            self._native.note_progress()  # the controller never gets to it
        if self._number is None:
            return
        if name == "logstart":
            nodeid: str = arguments["nodeid"]
            self._native.set_worker_test(self._number, nodeid.encode(errors="backslashreplace"))
        elif name == "workerready":
            self._native.set_worker_test(self._number, COLLECTION)
        elif name in ENDS:
            self._native.set_worker_test(self._number, None)
        else:
            self._native.hear_worker(self._number)

    def dismiss(self) -> None:
        """Listen no more; a process that does not end is ended with the run."""
        self._is_there = False
        if self._number is not None:
            self._native.dismiss_worker(self._number)

    def has_ended(self) -> bool:
        """Return whether there is nothing more to look after."""
        return not self._is_there and (self._descriptor < 0 or has_ended(self._descriptor))

    def close(self) -> None:
        """Look after it no more."""
        self._is_there = False
        if self._number is not None:
            self._native.remove_worker(self._number)
        if self._descriptor >= 0:
            os.close(self._descriptor)


def find_local_process(node: Any) -> int:
    """Return the process of a worker that runs on this machine, else 0."""
    process = find_process(node)
    return 0 if process is None else int(process.pid)
