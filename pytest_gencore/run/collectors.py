"""The collectors of a run, seen by those who wait: which live, when one ends, and how to end them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import TYPE_CHECKING

from pytest_gencore.run.files import STATE
from pytest_gencore.run.folder import find_holder, is_locked
from pytest_gencore.run.state import CaptureState, read_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TICK_SECONDS = 0.5
_CANCEL_SECONDS = 5.0


def read_states(folder: Path) -> Iterator[tuple[Path, CaptureState, bool]]:
    """Yield state file, state and whether its collector lives."""
    for path in sorted(folder.glob(STATE.glob)):
        state, alive = look_at(path)
        yield path, state or CaptureState(), alive


def look_at(path: Path) -> tuple[CaptureState | None, bool]:
    """Return what a state file says, None if nothing, and whether its collector lives.

    Of one that lives it has the process, also while the collector itself has written nothing yet.
    """
    alive = is_locked(path)  # before reading: what a dead collector wrote is final
    state = read_state(path)
    if alive and not (state and state.pid):
        state = state or CaptureState()
        state.pid = find_holder(path)
    return state, alive


def end_collectors(folder: Path) -> None:
    """End those at work, within some 5 s."""
    deadline = time.monotonic() + _CANCEL_SECONDS
    for number in (signal.SIGTERM, signal.SIGKILL):
        patience = deadline if number == signal.SIGKILL else deadline - _CANCEL_SECONDS / 4
        while working := [(path, state.pid) for path, state, alive in read_states(folder) if alive]:
            for path, pid in working:
                signal_collector(path, pid, number)
            if time.monotonic() >= patience:
                break
            wait_for_any_end([pid for _, pid in working if pid])


def signal_collector(state_file: Path, pid: int, number: int) -> None:
    """Send a signal to the collector of this state file, and to no other process."""
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)  # no process has the id 0
        try:
            if is_locked(state_file):  # so the descriptor is that of its collector
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def wait_for_any_end(pids: list[int]) -> None:
    """Wait until one of the processes has ended, at most one tick."""
    poll = select.poll()
    descriptors = []
    for pid in pids:
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            descriptors.append(descriptor)
            poll.register(descriptor, select.POLLIN)
    try:
        poll.poll((_TICK_SECONDS if descriptors else _TICK_SECONDS / 10) * 1000)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
