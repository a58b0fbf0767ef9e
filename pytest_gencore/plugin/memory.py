"""While tests run: how much of the memory is used; what runs is told once, before the kernel kills.

A thread looks once a second. It is none of ``threading``, takes no signal of the process, and is not there
while the process forks: Python warns of forks beside threads, and a test may make an error of that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from _thread import allocate_lock, get_native_id, start_new_thread
from typing import TYPE_CHECKING, Final

from pytest_gencore.errors import GencoreError
from pytest_gencore.machine.memory import find_fullest, read_children_rss, read_rss
from pytest_gencore.units import format_size
from pytest_gencore.unpatched import posix

if TYPE_CHECKING:
    from _thread import LockType as Lock
    from collections.abc import Callable

    from pytest_gencore.capture import CaptureEngine, CaptureRequest
    from pytest_gencore.machine.memory import Usage

TICK_SECONDS: Final = 1.0
END_SECONDS: Final = 5.0
"""How long the end of the thread is waited for; it has nothing to do but a capture."""
_POLL_SECONDS: Final = 0.0001
_STANDARD: Final = range(1, 32)
"""Signals that a test may block, to wait for them; with the others captures stop threads."""

_access, _write, _sleep, _mask = posix.access, posix.write, time.sleep, signal.pthread_sigmask
"""Kept: tests patch such functions."""


class MemoryWatch:
    """The watch of one process; of the thread that makes it the tests are."""

    _current: MemoryWatch | None = None
    _is_registered = False

    def __init__(
        self,
        engine: CaptureEngine,
        percent: float,
        *,
        make_request: Callable[[str], CaptureRequest],
        descriptor: int,
    ) -> None:
        """Begin to watch; ``make_request`` takes what is used, in words.

        Why there are no stacks is written to ``descriptor``, which stays the caller's; negative: nowhere.
        """
        self._engine = engine
        self._percent = percent
        self._make_request = make_request
        self._descriptor = descriptor
        self._pid = os.getpid()
        self._test_thread = get_native_id()
        self._is_over = False
        """Whether it has been told, or nobody wants to know any more."""
        self._forks = 0
        """How many threads are about to fork."""
        self._stop, self._ended = allocate_lock(), allocate_lock()
        self._tid = 0
        """Our thread; 0: there is none."""
        engine.native.set_test_thread()
        MemoryWatch._current = self
        if not MemoryWatch._is_registered:
            MemoryWatch._is_registered = True
            os.register_at_fork(
                before=_before_fork,
                after_in_parent=_after_fork_in_parent,
                after_in_child=_after_fork_in_child,
            )
        self._begin()

    def close(self) -> None:
        """Watch no longer."""
        self._is_over = True
        if MemoryWatch._current is self:
            MemoryWatch._current = None
            if os.getpid() == self._pid:
                self._end()

    def pause(self) -> None:
        """Let no thread be there until ``resume`` is called as often."""
        self._forks += 1
        if self._forks == 1:
            self._end()

    def resume(self) -> None:
        """Go on."""
        self._forks -= 1
        if self._forks == 0:
            self._begin()

    def _begin(self) -> None:
        if not self._is_over:
            self._stop, self._ended = allocate_lock(), allocate_lock()
            self._stop.acquire()
            self._ended.acquire()
            try:
                start_new_thread(self._run, (self._stop, self._ended))
            except RuntimeError:  # there are as many threads as there may be
                self._ended.release()

    def _end(self) -> None:
        with contextlib.suppress(RuntimeError):  # not locked: there never was one
            self._stop.release()
        if not self._ended.acquire(timeout=END_SECONDS):
            return
        self._ended.release()
        tid, self._tid = self._tid, 0
        tries = range(int(END_SECONDS / _POLL_SECONDS))
        path = f"/proc/self/task/{tid}"
        for _ in tries:  # Python's part of it has ended; what counts threads are the kernel's
            if not (tid and _access(path, posix.F_OK)):
                return
            _sleep(_POLL_SECONDS)

    def _run(self, stop: Lock, ended: Lock) -> None:
        try:
            if get_native_id() == self._test_thread:  # a greenlet: gevent has patched our threads
                return
            self._tid = get_native_id()
            with contextlib.suppress(Exception):  # the run goes on as it would without us
                _mask(signal.SIG_BLOCK, _STANDARD)
                while not stop.acquire(timeout=TICK_SECONDS):
                    if self._look():
                        self._is_over = True
                        return
        finally:
            ended.release()

    def _look(self) -> bool:
        """Tell if it is time to, and whether it has been."""
        usage = find_fullest()
        if usage is None or usage.percent < self._percent or self._engine.native.is_crashing():
            return False
        words = describe(usage, read_rss(), read_children_rss(self._pid))
        try:
            self._engine.tell(self._make_request(words))
        except GencoreError as error:
            if self._descriptor >= 0:
                _write(self._descriptor, f"\ngencore: memory: {words}; no stacks: {error}\n".encode())
        return True


def describe(usage: Usage, own_bytes: int, children_bytes: int) -> str:
    """Return how much of what is used, and by whom."""
    used, limit, own = (format_size(size) for size in (usage.used, usage.limit, own_bytes))
    text = f"{used} of {limit} ({usage.percent:.0f} %) of the {usage.owner}, this process {own}"
    return f"{text}, its children {format_size(children_bytes)}" if children_bytes else text


def _before_fork() -> None:
    if MemoryWatch._current is not None:
        MemoryWatch._current.pause()


def _after_fork_in_parent() -> None:
    if MemoryWatch._current is not None:
        MemoryWatch._current.resume()


def _after_fork_in_child() -> None:
    MemoryWatch._current = None
