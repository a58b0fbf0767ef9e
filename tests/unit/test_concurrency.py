"""Two collectors of a run at a time, whatever becomes of them, and no queue where none can be."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from kernel import wait_until

from pytest_gencore.machine.patience import Patience
from pytest_gencore.machine.process import state_of
from pytest_gencore.run import concurrency
from pytest_gencore.run.concurrency import collector_slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Callback = Callable[[], None]
    Acquire = Callable[[Callback, Callback], contextlib.AbstractContextManager[None]]


class Stop(Exception):  # noqa: N818 - no error
    pass


def refuse() -> None:
    raise AssertionError("must not be called")


def stop() -> None:
    raise Stop


@pytest.fixture
def acquire(tmp_path: Path) -> Acquire:
    return functools.partial(collector_slot, tmp_path)


def test_the_third_one_queues(acquire: Acquire, tmp_path: Path) -> None:
    queued: list[bool] = []
    with acquire(refuse, refuse), contextlib.ExitStack() as second:
        second.enter_context(acquire(refuse, refuse))
        with pytest.raises(Stop), acquire(lambda: queued.append(True), stop):
            refuse()
        assert queued == [True]
        with acquire(lambda: queued.append(True), second.close):
            assert queued == [True, True], "it goes on when the second one has ended"
    assert {path.name for path in tmp_path.iterdir()} == {"collector-1", "collector-2"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_slot_ends_with_an_error(acquire: Acquire) -> None:
    for _ in range(3):
        with pytest.raises(Stop), acquire(refuse, refuse):
            stop()


def test_no_queue_where_no_file_can_be(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with (
        collector_slot(missing, refuse, refuse),
        collector_slot(missing, refuse, refuse),
        collector_slot(missing, refuse, refuse),
    ):
        pass


def test_no_queue_through_links(acquire: Acquire, tmp_path: Path) -> None:
    (tmp_path / "collector-1").symlink_to(tmp_path / "other")
    with acquire(refuse, refuse), acquire(refuse, refuse), acquire(refuse, refuse):
        pass
    assert not (tmp_path / "other").exists()


HOLDER = """
import fcntl, os, signal, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
while sys.argv[2] == "moves": pass
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Let another process hold a slot; for a short patience."""
    monkeypatch.setattr(concurrency, "Patience", lambda: Patience(0.3))
    monkeypatch.setattr(concurrency, "_LOOK_SECONDS", 0.05)
    with contextlib.ExitStack() as stack:

        def start(name: str, what: str) -> None:
            command = [sys.executable, "-c", HOLDER, os.fspath(tmp_path / name), what]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
            if what == "stops":
                wait_until(lambda: state_of(process.pid) == "T", "it is stopped")

        yield start


def test_a_stuck_collector_frees_its_place(acquire: Acquire, hold: Callable[[str, str], None]) -> None:
    hold("collector-1", "moves")
    hold("collector-2", "stops")
    checks: list[bool] = []
    with acquire(lambda: None, lambda: checks.append(True)):
        assert checks, "not at once"
        with pytest.raises(Stop), acquire(lambda: None, stop):  # the place is taken again
            refuse()


def test_a_collector_that_moves_keeps_its_place(
    acquire: Acquire, hold: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrency, "Patience", lambda: Patience(0.3))
    hold("collector-1", "moves")
    hold("collector-2", "moves")
    began = time.monotonic()

    def wait_long() -> None:
        if time.monotonic() - began > 1.5:
            raise Stop

    with pytest.raises(Stop), acquire(lambda: None, wait_long):
        refuse()


def test_a_lock_of_a_stuck_holder(tmp_path: Path, hold: Callable[[str, str], None]) -> None:
    hold("budget", "stops")
    with (tmp_path / "budget").open("r+") as file:
        assert not concurrency.lock_patiently(file.fileno(), tmp_path / "budget")
    with (tmp_path / "other").open("w+") as file:
        assert concurrency.lock_patiently(file.fileno(), tmp_path / "other")
