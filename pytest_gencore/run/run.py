"""A run: all captures that one process waits for, as their state files tell."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING

from pytest_gencore.run.collectors import end_collectors, look_at, read_states, wait_for_any_end
from pytest_gencore.run.files import (
    CLOSED,
    DROP,
    FAILURE,
    LOG,
    REPORTED,
    SEEN,
    STATE,
)
from pytest_gencore.run.folder import (
    Refusals,
    count_refusals,
    is_locked,
    release_place,
    remove_archive,
    remove_unfinished,
    run_folder_name,
    sweep,
)
from pytest_gencore.run.outcome import Outcome, make_outcome
from pytest_gencore.run.pinned import create_private, open_private, open_regular, pinned
from pytest_gencore.run.state import CaptureState, read_state, write_state
from pytest_gencore.run.stuck import StuckCollectors, why_it_died

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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

    def find_problem(self) -> str:
        """Return why nothing can be known of the captures: what lies in place of the run's folder."""
        try:
            os.close(open_private(self._folder))
        except FileNotFoundError:
            return ""
        except PermissionError as error:
            return f"the run's folder {self._folder} cannot be used: {error.strerror}"
        return ""

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
            seen = self._look()
            outcomes = [outcome for outcome, _ in seen]
            if progress is not None:
                progress(outcomes)
            working = [pid for outcome, pid in seen if outcome.state == "working"]
            self._reap({pid for outcome, pid in seen if outcome.state != "working"})
            if not working or (deadline is not None and time.monotonic() >= deadline):
                return outcomes
            wait_for_any_end(working)

    def wait_for(self, name: str) -> Outcome:
        """Wait until the collector of one capture is not at work any more; return what became of it.

        ``name`` is that of its archive without ``.tar.gz``. Raises FileNotFoundError if its state is gone.
        """
        while True:
            outcome, pid = self._look_at(name)
            if outcome.state != "working":
                self._reap({pid})
                return outcome
            wait_for_any_end([pid] if pid else [])

    def drop(self, name: str) -> None:
        """Give up a capture that nobody wants any more, be it finished or not; may be called again.

        ``name`` is that of its archive without ``.tar.gz``. The test can be captured again.
        """
        with pinned(self._folder) as folder:
            if folder is None or not (folder / STATE.named(name)).exists():
                return
            state = folder / STATE.named(name)
            with contextlib.suppress(OSError):
                (folder / DROP.named(name)).touch(mode=0o600)
            deadline = time.monotonic() + _TIDYING_SECONDS
            while not self._settle(state):
                told = read_state(state)
                if told is None or not told.is_final or time.monotonic() >= deadline:
                    return  # the collector at work finds the mark, or the next look
                time.sleep(_TIDYING_TICK_SECONDS)

    def tell_failure(self, name: str, text: str) -> None:
        """Say that a report wants a capture of moment ``raise``, and its text; raises OSError."""
        with pinned(self._folder) as folder:
            if folder is None:
                raise FileNotFoundError(errno.ENOENT, "the run's folder is gone", str(self._folder))
            path = folder / FAILURE.named(name)
            temporary = path.with_name(f"{path.name}.new")
            with os.fdopen(create_private(temporary), "wb") as file:
                file.write(text.encode(errors="replace"))
            temporary.replace(path)

    def end_reports(self) -> None:
        """Say that no report comes any more: captures that wait for theirs are dropped."""
        with pinned(self._folder) as folder, contextlib.suppress(OSError):
            if folder is not None:
                (folder / REPORTED.named()).touch(mode=0o600)

    def acknowledge(self, name: str) -> None:
        """Say that a report names the archive of this name: its collector need not tell of it."""
        with pinned(self._folder) as folder, contextlib.suppress(OSError):
            if folder is not None:
                (folder / SEEN.named(name)).touch(mode=0o600)

    def refusals(self) -> Refusals:
        """Return how many captures of the run were refused."""
        with pinned(self._folder) as folder:
            return Refusals(number=0, size=0, again=0) if folder is None else count_refusals(folder)

    def cancel(self) -> list[Outcome]:
        """End the collectors at work, within some 5 s; only whole archives stay. Returns all outcomes."""
        with pinned(self._folder) as folder:
            if folder is not None:
                end_collectors(folder)
        return self.outcomes()

    def close(self) -> None:
        """Remove the hidden folder; leaves the archives.

        Captures that are still at work go on, and remove what they used when they are finished. Those that
        are finished get a moment to tidy up, so that nothing hidden is left when the test run ends.
        """
        with pinned(self._folder) as folder:
            if folder is None:
                return
            with contextlib.suppress(OSError):
                (folder / CLOSED.named()).touch(mode=0o600)
            deadline = time.monotonic() + _TIDYING_SECONDS
            while any(alive and state.is_final for _, state, alive in self._states(folder)):
                if time.monotonic() >= deadline:
                    break
                time.sleep(_TIDYING_TICK_SECONDS)
            sweep(folder, self._folder)

    def _reap(self, collectors: set[int]) -> None:
        """Reap collectors that we have adopted: the first process of a PID namespace gets all orphans."""
        if os.getpid() == 1:
            for pid in collectors - self._reaped - {0}:
                wait_for_any_end([pid])
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            self._reaped |= collectors

    def _states(self, folder: Path) -> Iterator[tuple[Path, CaptureState, bool]]:
        """Yield state file, state and whether its collector lives; one that is stuck is ended first."""
        for path, state, alive in read_states(folder):
            is_ended = alive and self._stuck.end(path, state)
            yield path, state, is_locked(path) if is_ended else alive

    def _look(self) -> list[tuple[Outcome, int]]:
        """Return what became of each capture, and the process of its collector."""
        with pinned(self._folder) as folder:
            if folder is None:
                return []
            return [
                (self._outcome(path, (None if alive else self._settle(path)) or state), state.pid)
                for path, state, alive in self._states(folder)
            ]

    def _look_at(self, name: str) -> tuple[Outcome, int]:
        """Do the same for one; raises FileNotFoundError."""
        with pinned(self._folder) as folder:
            if folder is not None:
                path = folder / STATE.named(name)
                state, alive = look_at(path)
                if alive and self._stuck.end(path, state or CaptureState()):
                    alive = is_locked(path)
                if not alive:
                    state = self._settle(path) or state
                if alive or state is not None:
                    state = state or CaptureState()
                    return self._outcome(path, state), state.pid
        reason = self.find_problem() or "the state of the capture is gone"
        raise FileNotFoundError(errno.ENOENT, reason, str(self._folder / STATE.named(name)))

    def _settle(self, path: Path) -> CaptureState | None:
        """Finish what a collector could not: it died, or the archive was dropped after it was finished.

        Returns the state; None if the collector lives, and will see to it itself.
        """
        try:
            descriptor = open_regular(path, os.O_RDWR)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = read_state(path, descriptor) or self._settled.get(path.stem) or CaptureState()
            is_dropped = path.with_name(DROP.named(path.stem)).exists()
            if state.state == "done" and is_dropped:
                remove_archive(self._directory, state.result, path.stem)
                state.state = "dropped"
            elif not state.is_final:
                remove_unfinished(self._directory, path.parent, path.stem, keep_text=not is_dropped)
                state.state = "dropped" if is_dropped else "failed"
                state.reason = "" if is_dropped else self._why_it_died(path)
            else:
                state.goes_on = False
                return state
            self._settled[path.stem] = state
            with contextlib.suppress(OSError):  # a full disk: again at the next look
                write_state(descriptor, state)
                release_place(path.parent, state.slot, state.claim)
        except BlockingIOError:
            return None
        finally:
            os.close(descriptor)
        return state

    def _outcome(self, path: Path, state: CaptureState) -> Outcome:
        reason = self._stuck.reasons.get(path.stem)
        if reason and not state.is_final:  # not even SIGKILL ends it
            state.state, state.reason = "failed", reason
        return make_outcome(self._directory, path, state)

    def _why_it_died(self, path: Path) -> str:
        log = path.with_name(LOG.named(path.stem))
        return self._stuck.reasons.get(path.stem) or why_it_died(log, self._directory)
