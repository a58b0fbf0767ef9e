"""A run: all captures that one process waits for, as their state files tell."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import time
from typing import TYPE_CHECKING

from pytest_gencore.run.files import CLOSED, DIAGNOSIS, DROP, LOG, SEEN, STATE, partial_name
from pytest_gencore.run.folder import (
    Refusals,
    count_refusals,
    find_holder,
    is_locked,
    release_place,
    run_folder_name,
    sweep,
)
from pytest_gencore.run.outcome import Outcome
from pytest_gencore.run.state import CaptureState, read_state, write_state
from pytest_gencore.run.stuck import StuckCollectors, signal_collector, why_it_died

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


_TICK_SECONDS = 0.5
_CANCEL_SECONDS = 5.0
_TIDYING_SECONDS, _TIDYING_TICK_SECONDS = 1.0, 0.002
"""Longest time that a finished collector is waited for; it takes some milliseconds."""


class Run:
    """The captures of one test run, of all its workers on this host."""

    def __init__(self, directory: Path, run_id: str) -> None:
        """Create nothing; ``directory`` is absolute, ``run_id`` comes from ``new_run_id``."""
        self._directory = directory
        self._folder = directory / run_folder_name(run_id)
        self._reaped: set[int] = set()
        self._settled: dict[str, CaptureState] = {}
        """States that could not be written, by name."""
        self._stuck = StuckCollectors()

    def outcomes(self) -> list[Outcome]:
        """Return the state of every capture of the run, in order of file name."""
        return [outcome for outcome, _ in self._look()]

    def wait(
        self,
        *,
        progress: Callable[[list[Outcome]], None] | None = None,
        timeout: float | None = None,
    ) -> list[Outcome]:
        """Wait until no collector of the run is at work, at most ``timeout`` seconds; return all outcomes.

        ``progress`` is called twice a second. A collector that died is reported as failed, and its
        ``.partial`` is removed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            seen = list(self._look())
            outcomes = [outcome for outcome, _ in seen]
            if progress is not None:
                progress(outcomes)
            working = [pid for outcome, pid in seen if outcome.state == "working"]
            self._reap({pid for outcome, pid in seen if outcome.state != "working"})
            if not working or (deadline is not None and time.monotonic() >= deadline):
                return outcomes
            _wait_for_any_end(working)

    def wait_for(self, name: str) -> Outcome:
        """Wait until the collector of one capture is not at work any more; return what became of it.

        ``name`` is that of its archive without ``.tar.gz``. Raises FileNotFoundError if its state is gone.
        """
        path = self._folder / STATE.named(name)
        while True:
            alive = is_locked(path)  # before reading: what a dead collector wrote is final
            state = read_state(path)
            if alive and self._stuck.end(path, state or CaptureState()):
                alive = is_locked(path)
            if not alive:
                state = self._settle(path) or state
                if state is None:
                    raise FileNotFoundError(errno.ENOENT, "the state of the capture is gone", str(path))
            outcome = self._outcome(path, state or CaptureState())
            if outcome.state != "working":
                self._reap({state.pid if state is not None else 0})
                return outcome
            _wait_for_any_end([state.pid] if state is not None and state.pid else [])

    def drop(self, name: str) -> None:
        """Give up a capture that nobody wants any more, be it finished or not; may be called again.

        ``name`` is that of its archive without ``.tar.gz``. The test can be captured again.
        """
        state = self._folder / STATE.named(name)
        if not state.exists():
            return
        with contextlib.suppress(OSError):
            (self._folder / DROP.named(name)).touch(mode=0o600)
        deadline = time.monotonic() + _TIDYING_SECONDS
        while not self._settle(state):
            told = read_state(state)
            if told is None or not told.is_final or time.monotonic() >= deadline:
                return  # the collector at work finds the mark, or the next look
            time.sleep(_TIDYING_TICK_SECONDS)

    def acknowledge(self, name: str) -> None:
        """Say that a report names the archive of this name: its collector need not tell of it."""
        with contextlib.suppress(OSError):
            (self._folder / SEEN.named(name)).touch(mode=0o600)

    def refusals(self) -> Refusals:
        """Return how many captures of the run were refused."""
        return count_refusals(self._folder)

    def cancel(self) -> list[Outcome]:
        """End the collectors at work, within some 5 s; only whole archives stay. Returns all outcomes."""
        deadline = time.monotonic() + _CANCEL_SECONDS
        for number in (signal.SIGTERM, signal.SIGKILL):
            patience = deadline if number == signal.SIGKILL else deadline - _CANCEL_SECONDS / 4
            while working := [
                (path, state.pid or find_holder(path)) for path, state, alive in self._states() if alive
            ]:
                for path, pid in working:
                    signal_collector(path, pid, number)
                if time.monotonic() >= patience:
                    break
                _wait_for_any_end([pid for _, pid in working if pid])
        return self.outcomes()

    def close(self) -> None:
        """Remove the hidden folder; leaves the archives.

        Captures that are still at work go on, and remove what they used when they are finished. Those that
        are finished get a moment to tidy up, so that nothing hidden is left when the test run ends.
        """
        if not self._folder.is_dir():
            return
        with contextlib.suppress(OSError):
            (self._folder / CLOSED.named()).touch(mode=0o600)
        deadline = time.monotonic() + _TIDYING_SECONDS
        while any(alive and state.is_final for _, state, alive in self._states()):
            if time.monotonic() >= deadline:
                break
            time.sleep(_TIDYING_TICK_SECONDS)
        sweep(self._folder)

    def _reap(self, collectors: set[int]) -> None:
        """Reap collectors that we have adopted: the first process of a PID namespace gets all orphans."""
        if os.getpid() == 1:
            for pid in collectors - self._reaped - {0}:
                _wait_for_any_end([pid])
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            self._reaped |= collectors

    def _states(self) -> Iterator[tuple[Path, CaptureState, bool]]:
        """Yield state file, state and whether its collector lives."""
        for path in sorted(self._folder.glob(STATE.glob)):
            alive = is_locked(path)  # before reading: what a dead collector wrote is final
            state = read_state(path) or CaptureState()
            if alive and self._stuck.end(path, state):
                alive = is_locked(path)
            yield path, state, alive

    def _look(self) -> Iterator[tuple[Outcome, int]]:
        for path, state, alive in self._states():
            settled = state if alive else self._settle(path) or state
            yield self._outcome(path, settled), state.pid

    def _settle(self, path: Path) -> CaptureState | None:
        """Finish what a collector could not: it died, or the archive was dropped after it was finished.

        Returns the state; None if the collector lives, and will see to it itself.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = read_state(descriptor) or self._settled.get(path.stem) or CaptureState()
            is_dropped = (self._folder / DROP.named(path.stem)).exists()
            if state.state == "done" and is_dropped:
                with contextlib.suppress(OSError):
                    (self._directory / state.result).unlink()
                state.state = "dropped"
            elif not state.is_final:
                _remove_leftovers(self._directory, self._folder, path.stem)
                state.state = "dropped" if is_dropped else "failed"
                state.reason = "" if is_dropped else self._why_it_died(path)
            else:
                return state
            self._settled[path.stem] = state
            with contextlib.suppress(OSError):  # a full disk: again at the next look
                write_state(descriptor, state)
                release_place(self._folder, state.slot, state.claim)
        except BlockingIOError:
            return None
        finally:
            os.close(descriptor)
        return state

    def _why_it_died(self, path: Path) -> str:
        return self._stuck.reasons.get(path.stem) or why_it_died(path.with_name(LOG.named(path.stem)))

    def _outcome(self, path: Path, state: CaptureState) -> Outcome:
        reason = self._stuck.reasons.get(path.stem)
        if reason and not state.is_final:  # not even SIGKILL ends it
            state.state, state.reason = "failed", reason
        return Outcome(
            archive=self._directory / (state.result or f"{path.stem}.tar.gz"),
            state="working" if state.state == "queued" else state.state,
            reason=state.reason,
            nodeid=state.nodeid,
            phase=state.phase,
            worker_id=state.worker_id,
            trigger=state.trigger,
            method=state.method,
            size_bytes=state.size,
            bytes_done=state.bytes_done,
            bytes_total=state.bytes_total,
            queued=state.state == "queued",
            captured_pid=state.captured_pid,
            attempt=state.attempt,
            signal=state.signal,
            summary=state.summary,
            deadline_source=state.deadline_source,
            answer=_read_answer(path.with_name(DIAGNOSIS.named(path.stem))) if state.answered else "",
        )


def _read_answer(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _wait_for_any_end(pids: list[int]) -> None:
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


def _remove_leftovers(directory: Path, folder: Path, name: str) -> None:
    with contextlib.suppress(OSError):
        (directory / partial_name(name)).unlink()
    shutil.rmtree(folder / name, ignore_errors=True)
