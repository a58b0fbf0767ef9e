"""The stacks that a request takes along: the calling thread's first, and nothing is kept of them."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING

from pytest_gencore.capture import python_stacks

if TYPE_CHECKING:
    import pytest


def test_own_thread_is_first_whatever_get_ident_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """gevent's returns the id of a greenlet, and ``threading`` lists greenlets."""
    ready, end = threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        end.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    ident = threading.get_ident()
    try:
        monkeypatch.setattr(threading, "get_ident", lambda: 1)
        stacks = python_stacks.read_stacks()
    finally:
        monkeypatch.undo()
        end.set()
        thread.join()
    assert stacks[0].ident == ident
    assert stacks[0].frames[0][0] == __file__, "no frame of the capture"


def test_frames_are_not_kept() -> None:
    """Else the objects of a test would live on until the garbage collector runs."""

    class Local:
        pass

    def capture() -> weakref.ref[Local]:
        local = Local()
        python_stacks.read_stacks()
        return weakref.ref(local)

    gc.disable()
    try:
        assert capture()() is None
    finally:
        gc.enable()
