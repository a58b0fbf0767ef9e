"""A run of pytest-xdist makes no progress: what its controller had heard of its workers, and since when."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.machine.process import state_of
from pytest_gencore.protocol import WORKER, WORKER_TEST, WorkerState
from pytest_gencore.request.model import SESSION_END
from pytest_gencore.run.collectors import read_states
from pytest_gencore.texts import printable
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot
    from pytest_gencore.collector.stacks.model import PythonThread
    from pytest_gencore.run.state import CaptureState

_NAME_LIMIT: Final = 1 << 16
_LINE_LENGTH: Final = 1000
_LINES_SHOWN: Final = 20
_STATES: Final = {
    "T": "its process is stopped, as by SIGSTOP",
    "t": "its process is stopped by a debugger",
    "D": "its process is in a call that the kernel does not interrupt",
    "Z": "its process has ended",
    "": "its process has ended, or cannot be seen",
}
_WAITING_FILES: Final = ("/queue.py", "/threading.py")
_LOOP: Final = ("/xdist/dsession.py", "loop_once")
"""Where the controller waits for messages."""


class HeardWorker(NamedTuple):
    """A worker, as its controller knew it."""

    name: str
    pid: int
    """0 for one on another machine."""
    silent: float
    """Seconds since its last message, or since it was started."""
    nodeid: str | None
    """The test that it runs; empty: it collects them; None: neither."""
    took: float
    """How long ago that began."""

    @property
    def is_busy(self) -> bool:
        """Whether it did not wait for the controller, as far as that knew."""
        return self.nodeid is not None


def read_workers(handover: Handover, snapshot: Snapshot) -> list[HeardWorker]:
    """Return the workers that a controller had when it was captured."""
    now = handover.stopped_at_ns or time.monotonic_ns()
    data = snapshot.read(handover.workers_address, handover.workers_count * WORKER.size)
    records = (WORKER.unpack(data, offset) for offset in range(0, len(data), WORKER.size))
    workers = []
    for record in records:
        if record["state"] != WorkerState.HEARD:
            continue
        nodeid, began = None, now
        if record["test"]:
            head = WORKER_TEST.unpack(snapshot.read(record["test"], WORKER_TEST.size))
            size = min(head["size"], _NAME_LIMIT)
            nodeid = snapshot.read(record["test"] + WORKER_TEST.size, size).decode(errors="replace")
            began = head["began_at"]
        workers.append(
            HeardWorker(
                name=record["name"].partition(b"\0")[0].decode(errors="replace"),
                pid=record["pid"],
                silent=_seconds(now - record["heard_at"]),
                nodeid=nodeid,
                took=_seconds(now - began),
            )
        )
    return sorted(workers, key=lambda worker: (len(worker.name), worker.name))


class SilentWorkers:
    """Says what there is to say of them, and whether they have said it themselves."""

    def __init__(
        self, handover: Handover, workers: Sequence[HeardWorker], threads: Iterable[PythonThread]
    ) -> None:
        """``threads`` are those of the controller."""
        self._workers = workers
        self._archives = _find_archives(handover, workers)
        self._is_ending = handover.context.exits
        self.is_awaited = _waits_for_messages(threads)
        """Whether the controller waits for their messages: then the question is they, and not it."""

    @property
    def have_told(self) -> bool:
        """Whether each that is busy has been captured, and the run goes on: all is said.

        What several hang in outside of tests is captured once.
        """
        if self._is_ending or not self.is_awaited or not self._archives:
            return False
        has_collection = any(
            worker.nodeid == "" and worker.name in self._archives for worker in self._workers
        )
        return all(
            worker.name in self._archives
            or not (worker.is_busy or is_stopped(worker))
            or (worker.nodeid == "" and has_collection and not is_stopped(worker))
            for worker in self._workers
        )

    def add_to(self, answer: list[str], verdicts: int) -> tuple[list[str], int]:
        """Return the answer with what is known of them, and how many lines are titles.

        ``verdicts``: how many lines it has before the one about the trigger. What the controller waits for is
        no news if that are they.
        """
        first = answer[verdicts : verdicts + 1] if self.is_awaited else answer[: verdicts + 1]
        titles = [*first, *self.describe()]
        return [*titles, *answer[verdicts + 1 :]], len(titles)

    def describe(self) -> list[str]:
        """Return the lines for a log: those that are busy first."""
        busy = [worker for worker in self._workers if worker.is_busy]
        idle = [worker for worker in self._workers if not worker.is_busy]
        lines = [self._describe(worker) for worker in busy[:_LINES_SHOWN]]
        if len(busy) > _LINES_SHOWN:
            lines.append(f"... and {len(busy) - _LINES_SHOWN} more workers that are not idle")
        lines += [self._describe(worker) for worker in idle[:_LINES_SHOWN]]
        if len(idle) > _LINES_SHOWN:
            lines.append(f"... and {len(idle) - _LINES_SHOWN} more workers that run no test")
        return [printable(line, _LINE_LENGTH) for line in lines]

    def _describe(self, worker: HeardWorker) -> str:
        doing = f"it runs {worker.nodeid}" if worker.nodeid else "it collects tests"
        since = f", begun {format_duration(worker.took)} ago"
        doing = f"{doing}{since}" if worker.is_busy else "it runs no test"
        where = f"process {worker.pid}" if worker.pid else "on another machine"
        parts = [f"worker {worker.name}, {where}: no message for {format_duration(worker.silent)}", doing]
        state = _STATES.get(state_of(worker.pid)) if worker.pid else None
        archive = self._archives.get(worker.name)
        return "; ".join([*parts, *filter(None, (state, archive and f"it was captured: {archive}"))])


def is_stopped(worker: HeardWorker) -> bool:
    """Whether its process is stopped, and can say nothing."""
    return bool(worker.pid) and state_of(worker.pid) == "T"


def _find_archives(handover: Handover, workers: Sequence[HeardWorker]) -> dict[str, str]:
    """Return the archives of those that were captured in what they are still at, by name of the worker."""
    found = {}
    with contextlib.suppress(OSError):
        for path, state, alive in read_states(handover.run_folder):
            for worker in workers:
                is_its = state.captured_pid == worker.pid and _is_there(worker, state)
                is_wanted = state.state == "done" or (alive and not state.is_final)
                if is_its and is_wanted and state.trigger == "timeout":
                    found[worker.name] = str(handover.directory / f"{path.stem}.tar.gz")
    return found


def _is_there(worker: HeardWorker, state: CaptureState) -> bool:
    """Whether a worker was captured where its controller knows it to be."""
    if worker.nodeid:
        return state.nodeid == worker.nodeid
    where = "collection" if worker.is_busy else SESSION_END
    return state.nodeid is None and state.place.startswith(where)


def _waits_for_messages(threads: Iterable[PythonThread]) -> bool:
    """Whether the thread that captured stands where the loop of the controller waits."""
    own = next((thread for thread in threads if thread.is_current), None)
    frames = [] if own is None else [frame for frame in reversed(own.frames) if not frame.native]
    for frame in frames:
        if not frame.file.endswith(_WAITING_FILES):
            return frame.file.endswith(_LOOP[0]) and frame.function.rpartition(".")[2] == _LOOP[1]
    return False


def _seconds(nanoseconds: int) -> float:
    return round(max(0, nanoseconds) / 1e9, 1)
