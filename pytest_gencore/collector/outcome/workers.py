"""A run of pytest-xdist is cancelled: what the collectors of its workers say, told by the controller's."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.cancelled import is_done, is_idle
from pytest_gencore.junit.common import name_case
from pytest_gencore.junit.writer import WorkerVerdict
from pytest_gencore.run.collectors import read_states
from pytest_gencore.run.files import DIAGNOSIS
from pytest_gencore.run.pinned import read_regular
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.junit.journal import Worker
    from pytest_gencore.run.state import CaptureState

_ANSWER_SECONDS: Final = 0.8
_ARCHIVE_SECONDS: Final = 120.0
_TICK_SECONDS: Final = 0.02
_ANSWER_LIMIT: Final = 1 << 20


class Workers:
    """The captures of the workers that the same cancel made."""

    def __init__(self, handover: Handover, workers: tuple[Worker, ...]) -> None:
        self._directory = handover.directory
        self._folders = handover.context.run.session.folders
        self._folder = handover.run_folder
        self._workers = sorted(workers, key=lambda worker: (len(worker.name), worker.name))
        self._told: set[int] = set()
        self._answers: dict[str, str] = {}
        self._states: dict[int, tuple[Path, CaptureState, bool]] = {}

    def wait_for_answers(self, seconds: float = _ANSWER_SECONDS) -> None:
        """Wait until every worker has said where it is, at most so long."""
        deadline = time.monotonic() + seconds
        while not self._look(lambda state: state.answered or state.is_final):
            if time.monotonic() > deadline:
                return
            time.sleep(_TICK_SECONDS)

    def wait_for_archives(self, tick: Callable[[], None]) -> None:
        """Wait until no archive of a worker is being written; ``tick`` is called meanwhile."""
        deadline = time.monotonic() + _ARCHIVE_SECONDS
        while time.monotonic() < deadline:
            self._look(lambda _: True)
            if not any(alive and not state.is_final for _, state, alive in self._states.values()):
                return
            tick()
            time.sleep(_TICK_SECONDS)

    @property
    def is_any_busy(self) -> bool:
        """Whether one of them was in a test, or on the way to one; else the question is the controller."""
        return any(
            not (is_idle(state.nodeid, state.place) or is_done(state.nodeid, state.place))
            for _, state, _ in self._states.values()
        )

    @property
    def have_all_answered(self) -> bool:
        """Whether each has said where it was."""
        return all(
            worker.pid in self._states and self._states[worker.pid][1].answered for worker in self._workers
        )

    def describe(self) -> list[str]:
        """Return the lines for a log: the answers, and who has not answered."""
        lines = []
        for worker in self._workers:
            name = f"gencore: worker {worker.name}, process {worker.pid}"
            found = self._states.get(worker.pid)
            if found is None or not (found[1].answered or is_idle(found[1].nodeid, found[1].place)):
                lines.append(f"{name}: no answer within {format_duration(_ANSWER_SECONDS)}")
            elif is_idle(found[1].nodeid, found[1].place):
                lines.append(f"{name}: {found[1].place}")
            else:
                lines += self._tell(*found)
        return lines

    def describe_late(self) -> list[str]:
        """Return the answers that came after ``describe``."""
        lines = []
        for pid, found in self._states.items():
            if pid not in self._told and found[1].answered and not is_idle(found[1].nodeid, found[1].place):
                lines += self._tell(*found)
        return lines

    def _tell(self, path: Path, state: CaptureState, _alive: bool) -> list[str]:
        self._told.add(state.captured_pid)
        return _mark(self._read_answer(path), state.summary)

    def verdicts(self) -> dict[tuple[str, str], WorkerVerdict]:
        """Return what is to be said of their tests, by class name and name."""
        return {
            name_case(state.nodeid): WorkerVerdict(
                state.summary,
                self._read_answer(path),
                self._directory / state.result if state.state == "done" else None,
            )
            for path, state, _ in self._states.values()
            if state.nodeid is not None and state.answered
        }

    def conclude(self) -> Iterator[str]:
        """Yield what came of their archives."""
        for _, state, alive in self._states.values():
            if state.state == "done":
                archive = self._folders.shorten(str(self._directory / state.result))
                yield f"core archive: {archive}  ({format_size(state.size)})"
            elif state.state == "failed":
                yield f"no core archive of worker {state.worker_id}: {state.reason}"
            elif alive:
                yield f"the core archive of worker {state.worker_id} is still being written"

    def _look(self, is_enough: Callable[[CaptureState], bool]) -> bool:
        """Look again; return whether enough is known of each worker."""
        pids = {worker.pid for worker in self._workers}
        seen = {
            state.captured_pid: (path, state, alive)
            for path, state, alive in read_states(self._folder)
            if state.trigger == "cancel" and state.captured_pid in pids
        }
        gone = {pid: self._settle(*found) for pid, found in self._states.items() if pid not in seen}
        self._states = {**gone, **seen}
        return all(pid in self._states and is_enough(self._states[pid][1]) for pid in pids)

    def _settle(self, path: Path, state: CaptureState, _alive: bool) -> tuple[Path, CaptureState, bool]:
        """Return what became of a capture whose state is gone: its collector has tidied up."""
        archive = self._directory / f"{path.stem}.tar.gz"
        with contextlib.suppress(OSError):
            state.size = archive.stat().st_size
            state.state, state.result = "done", archive.name
        return path, state, False

    def _read_answer(self, state_file: Path) -> str:
        path = state_file.with_name(DIAGNOSIS.named(state_file.stem))
        with contextlib.suppress(OSError):  # a collector that has tidied up: what it said before
            text = read_regular(path, _ANSWER_LIMIT).decode(errors="replace")
            self._answers[path.stem] = escape_unprintable(text, keep="\n").rstrip("\n")
        return self._answers.get(path.stem, "")


def _mark(answer: str, summary: str) -> list[str]:
    """Mark the first lines, up to the one about the trigger, as ours."""
    lines = answer.splitlines()
    titles = lines.index(summary) + 1 if summary in lines else 1
    return [*(f"gencore: {line}" for line in lines[:titles]), *lines[titles:], ""]
