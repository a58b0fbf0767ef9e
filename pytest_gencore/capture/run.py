"""A run: all captures that one process waits for, as their state files tell."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_gencore.runfolder import (
    CLOSED_MARK,
    is_locked,
    remove_if_idle,
    remove_traces,
    run_folder_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_TICK_SECONDS = 0.5
_LOG_LIMIT = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became, or is becoming, of one capture."""

    archive: Path
    state: Literal["working", "done", "failed"]
    reason: str
    """Why it failed; for a finished one what is worth knowing (truncated, ...); else empty."""
    nodeid: str | None
    phase: str | None
    worker_id: str | None
    trigger: str
    method: str
    size_bytes: int
    """Size of the finished archive; 0 before."""
    bytes_done: int
    bytes_total: int
    """Bytes of core and libraries read so far and in all; 0 while unknown."""


class Run:
    """The captures of one test run, of all its workers on this host."""

    def __init__(self, directory: Path, run_id: str) -> None:
        """Create nothing; ``directory`` is absolute, ``run_id`` comes from ``new_run_id``."""
        self._directory = directory
        self._folder = directory / run_folder_name(run_id)
        self._reaped: set[int] = set()

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

    def close(self) -> None:
        """Remove the hidden folder; leaves the archives.

        Captures that are still at work go on, and remove what they used when they are finished.
        """
        if not self._folder.is_dir():
            return
        with contextlib.suppress(OSError):
            (self._folder / CLOSED_MARK).touch(mode=0o600)
        for state in sorted(self._folder.glob("*.json")):
            if not is_locked(state):
                remove_traces(self._folder, state.stem)
        remove_if_idle(self._folder)

    def _reap(self, collectors: set[int]) -> None:
        """Reap collectors that we have adopted: the first process of a PID namespace gets all orphans."""
        if os.getpid() == 1:
            for pid in collectors - self._reaped - {0}:
                _wait_for_any_end([pid])
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            self._reaped |= collectors

    def _look(self) -> Iterator[tuple[Outcome, int]]:
        for path in sorted(self._folder.glob("*.json")):
            alive = is_locked(path)  # before reading: what a dead collector wrote is final
            state = _read_state(path)
            yield self._outcome(path, state, alive=alive), int(state.get("pid", 0))

    def _outcome(self, path: Path, state: dict[str, Any], *, alive: bool) -> Outcome:
        phase = state.get("state", "working")
        reason = state.get("reason", "")
        archive = self._directory / state.get("result", f"{path.stem}.tar.gz")
        if phase == "working" and not alive:
            phase, reason = "failed", _why_it_died(path.with_suffix(".log"))
            _remove_leftovers(self._directory, self._folder, path.stem)
        return Outcome(
            archive=archive,
            state=phase,
            reason=reason,
            nodeid=state.get("nodeid"),
            phase=state.get("phase"),
            worker_id=state.get("worker_id"),
            trigger=state.get("trigger", "failure"),
            method=state.get("method", "auto"),
            size_bytes=state.get("size", 0),
            bytes_done=state.get("bytes_done", 0),
            bytes_total=state.get("bytes_total", 0),
        )


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}  # not written yet
    return state if isinstance(state, dict) else {}


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


def _why_it_died(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text(errors="replace")[-_LOG_LIMIT:].strip().splitlines()
        if lines:
            return f"the collector died: {lines[-1]}"
    return "the collector was killed; out of memory?"


def _remove_leftovers(directory: Path, folder: Path, name: str) -> None:
    with contextlib.suppress(OSError):
        (directory / f"{name}.tar.gz.partial").unlink()
    shutil.rmtree(folder / name, ignore_errors=True)
