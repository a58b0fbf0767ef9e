"""What the collector of a controller says of its workers, and when it says nothing."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_gencore.collector.outcome.silent import HeardWorker, SilentWorkers
from pytest_gencore.collector.stacks.model import Frame, PythonThread
from pytest_gencore.run.files import STATE
from pytest_gencore.run.state import CaptureState, write_state

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.triggers import Trigger

LOOP = Frame("/lib/xdist/dsession.py", 150, "loop_once")
WAIT = (Frame("/lib/python3.12/queue.py", 171, "get"), Frame("/lib/python3.12/threading.py", 359, "wait"))
WAITING = (LOOP, *WAIT)
HANGING = (LOOP, Frame("/project/conftest.py", 4, "pytest_runtest_logreport"), *WAIT)
NATIVE = Frame("lock.c", 1, "lock_PyThread_acquire_lock", native=True)
PID = os.getpid()
"""Of a process that lives, for all workers."""


class Captured(NamedTuple):
    """A capture of a worker that is finished."""

    nodeid: str | None = None
    place: str = ""
    trigger: Trigger = "timeout"


def worker(name: str, nodeid: str | None, pid: int = PID) -> HeardWorker:
    return HeardWorker(name, pid, silent=3.5, nodeid=nodeid, took=125.0)


def look(
    folder: Path,
    workers: list[HeardWorker],
    *captured: Captured,
    frames: tuple[Frame, ...] = WAITING,
    exits: bool = False,
) -> SilentWorkers:
    for number, capture in enumerate(captured):
        name = f"core_{number}"
        state = CaptureState(
            state="done", captured_pid=PID, result=f"{name}.tar.gz", answered=True, **capture._asdict()
        )
        with (folder / STATE.named(name)).open("wb") as file:
            write_state(file.fileno(), state)
    handover: Any = SimpleNamespace(
        run_folder=folder, directory=folder.parent, context=SimpleNamespace(exits=exits)
    )
    thread = PythonThread("MainThread", 1, 1, frames, is_current=True)
    return SilentWorkers(handover, workers, [PythonThread("other", 2, 2, HANGING), thread])


IN_TEST, COLLECTING, IDLE = worker("gw0", "a.py::x"), worker("gw1", ""), worker("gw2", None)
TOLD = {
    "test": ([IN_TEST], [Captured("a.py::x")], True),
    "beside an idle one": ([IN_TEST, IDLE], [Captured("a.py::x")], True),
    "another test": ([IN_TEST], [Captured("a.py::y")], False),
    "another trigger": ([IN_TEST], [Captured("a.py::x", trigger="failure")], False),
    "another process": ([worker("gw0", "a.py::x", PID + 1)], [Captured("a.py::x")], False),
    "one of two": ([IN_TEST, worker("gw1", "a.py::y")], [Captured("a.py::x")], False),
    "collection": ([COLLECTING], [Captured(place="collection of a.py")], True),
    "it was collecting": ([IN_TEST], [Captured(place="collection of a.py")], False),
    "session end": ([IDLE], [Captured(place="session end")], True),
    "it was collecting before": ([IDLE], [Captured(place="collection of a.py")], False),
    "nobody": ([IDLE], [], False),
}


@pytest.mark.parametrize("case", TOLD)
def test_whether_all_is_said(tmp_path: Path, case: str) -> None:
    workers, captured, expected = TOLD[case]

    assert look(tmp_path, workers, *captured).have_told is expected


def test_several_that_hang_in_the_same_module(tmp_path: Path) -> None:
    """It is captured once."""
    other = worker("gw3", "", os.getppid())

    assert look(tmp_path, [COLLECTING, other], Captured(place="collection of a.py")).have_told


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(WAITING, True), ((*WAITING, NATIVE), True), (HANGING, False), (WAIT, False), ((), False)],
)
def test_whether_the_controller_waits(tmp_path: Path, frames: tuple[Frame, ...], expected: bool) -> None:
    found = look(tmp_path, [IN_TEST], Captured("a.py::x"), frames=frames)

    assert found.is_awaited is found.have_told is expected


def test_a_controller_that_ends_tells(tmp_path: Path) -> None:
    assert not look(tmp_path, [IN_TEST], Captured("a.py::x"), exits=True).have_told


def test_words(tmp_path: Path) -> None:
    remote, ended = worker("gw3", None, 0), worker("gw4", "b.py::z\x1b", 2**22 + 1)

    silent, ago = "no message for 3.5 s", "begun 2 min 5 s ago"
    lines = look(tmp_path, [IDLE, IN_TEST, COLLECTING, remote, ended], Captured("a.py::x")).describe()

    archive = tmp_path.parent / "core_0.tar.gz"
    assert lines == [
        f"worker gw0, process {PID}: {silent}; it runs a.py::x, {ago}; it was captured: {archive}",
        f"worker gw1, process {PID}: {silent}; it collects tests, {ago}",
        (
            f"worker gw4, process {2**22 + 1}: {silent}; it runs b.py::z\\x1b, {ago}; "
            "its process has ended, or cannot be seen"
        ),
        f"worker gw2, process {PID}: {silent}; it runs no test",
        f"worker gw3, on another machine: {silent}; it runs no test",
    ]


def test_many(tmp_path: Path) -> None:
    busy = [worker(f"gw{number}", "a.py::x") for number in range(25)]
    idle = [worker(f"gw{number}", None) for number in range(25, 50)]

    lines = look(tmp_path, [*busy, *idle]).describe()

    assert len(lines) == 42
    assert lines[20] == "... and 5 more workers that are not idle"
    assert lines[41] == "... and 5 more workers that run no test"


@pytest.mark.parametrize(
    ("frames", "expected", "titles"),
    [
        (WAITING, ["no progress", "worker", "evidence", "stack"], 2),
        (HANGING, ["waits for x", "no progress", "worker", "evidence", "stack"], 3),
    ],
)
def test_answer(tmp_path: Path, frames: tuple[Frame, ...], expected: list[str], titles: int) -> None:
    """What the controller waits for is no news if that are its workers."""
    found = look(tmp_path, [IN_TEST], frames=frames)

    answer, count = found.add_to(["waits for x", "no progress", "evidence", "stack"], 1)

    assert [line if not line.startswith("worker") else "worker" for line in answer] == expected
    assert count == titles
