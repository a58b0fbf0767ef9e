"""What is taken from the living process, and what is not."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.portable.look import look
from pytest_gencore.portable.watchdog import Watchdog
from pytest_gencore.probe import values

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def keep_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the look change how other tests read frames no longer than for one of these."""
    monkeypatch.setattr(values, "_others", [])


@contextlib.contextmanager
def waiting_thread() -> Iterator[int]:
    """Run a thread that waits in a function with a local; yield its ident."""
    is_there, go_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        order = 84
        is_there.set()
        go_on.wait()
        assert order

    thread = threading.Thread(target=stand_still)
    thread.start()
    try:
        assert is_there.wait(30)
        yield thread.ident or 0
    finally:
        go_on.set()
        thread.join()


def locals_in(seen: dict[str, Any], function: str) -> dict[str, str]:
    frames = [frame for stack in seen["stacks"] for frame in stack["frames"]]
    return next(dict(found) for _, _, name, found in frames if name.rpartition(".")[2] == function)


@pytest.mark.parametrize("has_gil", [True, False])
def test_locals_of_other_threads(monkeypatch: pytest.MonkeyPatch, *, has_gil: bool) -> None:
    """Without a GIL they are not read: the other threads run, and CPython may crash."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: has_gil, raising=False)
    mine = "seven"
    with waiting_thread():
        seen = look(threading.get_ident())
    assert locals_in(seen, "test_locals_of_other_threads")["mine"] == repr(mine)
    assert locals_in(seen, "stand_still").get("order") == ("84" if has_gil else None)
    expected = "no diagnosis, no locals of other threads: without a GIL they change what is looked at"
    assert seen["problem"] == ("" if has_gil else expected)


def test_locals_at_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of the test is another one than that which looks."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with waiting_thread() as ident:
        assert locals_in(look(ident), "stand_still") == {}


def test_own_thread() -> None:
    """The thread that waits for deadlines, or acts, is in no stacks."""
    is_acting, go_on = threading.Event(), threading.Event()

    def act(*_: object) -> None:
        is_acting.set()
        go_on.wait()

    watchdog = Watchdog(act)
    watchdog.set(0, 0.0, "")
    try:
        assert is_acting.wait(30)
        seen = look(threading.get_ident())
    finally:
        go_on.set()
        watchdog.stop()
    files = {Path(frame[0]).name for stack in seen["stacks"] for frame in stack["frames"]}
    assert Path(__file__).name in files
    assert "watchdog.py" not in files
