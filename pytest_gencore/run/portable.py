"""A run whose processes capture without the C extension: nothing is locked, and no process is looked at.

A helper writes each state. One that does not come to its end in time is taken for dead.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import time
from typing import TYPE_CHECKING, Final

from pytest_gencore.run.files import CLOSED, DROP, SEEN, STATE
from pytest_gencore.run.folder import (
    Refusals,
    count_refusals,
    release_place,
    remove_archive,
    remove_tree,
    remove_unfinished,
    run_folder_name,
)
from pytest_gencore.run.outcome import Outcome, make_outcome
from pytest_gencore.run.pinned import why_not_private
from pytest_gencore.run.state import CaptureState, read_state, replace_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_now, _wall = functools.partial(time.monotonic), functools.partial(time.time)
_sleep = functools.partial(time.sleep)
"""Kept: see ``portable/kept.py``."""
_TICK_SECONDS: Final = 0.02
_CANCEL_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 60.0
"""Longer than a helper takes for any text, from the last word of it."""


class PortableRun:
    """The captures of one test run, of all its workers on this host."""

    def __init__(self, directory: Path, run_id: str) -> None:
        """Create nothing; ``directory`` is absolute."""
        self._directory = directory
        self._folder = directory / run_folder_name(run_id)

    def outcomes(self) -> list[Outcome]:
        """Return the state of every capture of the run, in order of file name."""
        return [make_outcome(self._directory, path, state) for path, state in self._look()]

    def find_problem(self) -> str:
        """Return why nothing can be known of the captures; empty if it can."""
        try:
            reason = why_not_private(self._folder.lstat())
        except FileNotFoundError:
            return ""
        except OSError as error:
            reason = error.strerror or str(error)
        return f"the run's folder {self._folder} cannot be used: {reason}" if reason else ""

    def wait(
        self, *, progress: Callable[[list[Outcome]], None] | None = None, timeout: float | None = None
    ) -> list[Outcome]:
        """Wait until every capture has come to its end, at most ``timeout`` seconds; return all outcomes."""
        deadline = None if timeout is None else _now() + timeout
        while True:
            outcomes = self.outcomes()
            if progress is not None:
                progress(outcomes)
            is_at_work = any(outcome.state == "working" for outcome in outcomes)
            if not is_at_work or (deadline is not None and _now() >= deadline):
                return outcomes
            _sleep(_TICK_SECONDS)

    def wait_for(self, name: str) -> Outcome:
        """Wait until one capture has come to its end; raises FileNotFoundError if its state is gone."""
        while True:
            found = [outcome for outcome in self.outcomes() if outcome.archive.name == f"{name}.tar.gz"]
            if not found:
                reason = self.find_problem() or "the state of the capture is gone"
                raise FileNotFoundError(errno.ENOENT, reason, str(self._folder / STATE.named(name)))
            if found[0].state != "working":
                return found[0]
            _sleep(_TICK_SECONDS)

    def drop(self, name: str) -> None:
        """Give up a capture that nobody wants any more; may be called again."""
        self._mark(DROP.named(name))
        self._look()

    def tell_failure(self, name: str, text: str) -> None:
        """Do nothing: failures are captured when they are reported."""

    def end_reports(self) -> None:
        """Do nothing, likewise."""

    def acknowledge(self, name: str) -> None:
        """Say that a report names the archive of this name: the helper need not tell of it."""
        self._mark(SEEN.named(name))

    def refusals(self) -> Refusals:
        """Return how many captures of the run were refused."""
        return count_refusals(self._folder)

    def cancel(self) -> list[Outcome]:
        """Wait a moment longer, as a text takes no more; give up what is not finished then.

        Only whole archives stay, and the texts beside. Returns all outcomes.
        """
        self.wait(timeout=_CANCEL_SECONDS)
        for path, state in self._look():
            if not state.is_final:
                self._give_up(path, state, "interrupted")
        return self.outcomes()

    def close(self) -> None:
        """Remove the hidden folder; leaves the archives. What is still at work removes it when it is done."""
        self._mark(CLOSED.named())
        if not any(outcome.state == "working" for outcome in self.outcomes()):
            remove_run_folder(self._folder)

    def _mark(self, name: str) -> None:
        with contextlib.suppress(OSError):
            if self._folder.is_dir() and not self.find_problem():
                (self._folder / name).touch(mode=0o600)

    def _look(self) -> list[tuple[Path, CaptureState]]:
        return list(self._states()) if not self.find_problem() else []

    def _states(self) -> Iterator[tuple[Path, CaptureState]]:
        for path in sorted(self._folder.glob(STATE.glob)):
            state = read_state(path) or CaptureState()
            is_dropped = (self._folder / DROP.named(path.stem)).exists()
            if state.state == "done" and is_dropped:
                remove_archive(self._directory, state.result, path.stem)
                self._settle(path, state, "dropped", "")
            elif not state.is_final and is_over(path):
                self._give_up(path, state, "the helper that writes archives has ended, or hangs")
            yield path, state

    def _give_up(self, path: Path, state: CaptureState, reason: str) -> None:
        """Remove what a helper is at, or has left: its core is unredacted. It fails without that."""
        remove_unfinished(self._directory, self._folder, path.stem, keep_text=True)
        self._settle(path, state, "failed", reason)

    def _settle(self, path: Path, state: CaptureState, end: str, reason: str) -> None:
        state.state, state.reason = ("dropped" if end == "dropped" else "failed"), reason
        release_place(self._folder, state.slot, state.claim)
        with contextlib.suppress(OSError):
            replace_state(path, state)


def remove_run_folder(folder: Path) -> None:
    """Remove the folder of a run that nobody waits for any more, with what is in it."""
    with contextlib.suppress(OSError):
        remove_tree(str(folder))


def is_over(path: Path) -> bool:
    """Whether nothing was heard of a capture for so long that its helper must have ended, or hangs."""
    with contextlib.suppress(OSError):
        return _wall() - path.lstat().st_mtime > PATIENCE_SECONDS
    return False
