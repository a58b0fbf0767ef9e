"""Documents made by hand, large or hostile."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from made_archives import write_archive

from pytest_gencore.archive import read_archive
from pytest_gencore.archive.diagnosis_file import Loop, Node, Place, Verdict, Wait
from pytest_gencore.archive.stacks_file import Frame, Local
from pytest_gencore.document.encode import make_document
from pytest_gencore.document.model import Child, Excerpt, StuckTask, Thread

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.document.model import Document

FILE = "/project/test_a.py"


def new_frame(line: int, **changes: Any) -> Frame:
    frame = Frame(
        file=FILE,
        line=line,
        function=f"function_{line}",
        native=False,
        library=None,
        project=True,
        source="with lock:",
        locals=(Local(name="value", value=f"<Value {line}>"),),
    )
    return dataclasses.replace(frame, **changes)


def new_wait(*holders: Node, text: str = "lock 'ledger'") -> Wait:
    return Wait(kind="lock", text=text, resource=7, name="ledger", timeout_seconds=None, holders=holders)


def new_thread(number: int, *, wait: Wait | None = None, frames: int = 2, **changes: Any) -> Thread:
    thread = Thread(
        native_id=100 + number,
        ident=number,
        name=f"worker-{number}",
        captured=number == 1,
        holds_gil=None,
        activity=None,
        place=Place(file=FILE, line=5, function="f"),
        wait=wait,
        deadlocked=False,
        frames=tuple(new_frame(line, project=line % 3 == 0) for line in range(1, frames + 1)),
        cut=False,
    )
    return dataclasses.replace(thread, **changes)


def new_task(number: int, *, wait: Wait | None = None, **changes: Any) -> StuckTask:
    task = StuckTask(
        id=1000 + number,
        name=f"Task-{number}",
        framework="asyncio",
        coroutine="serve",
        running=False,
        place=Place(file=FILE, line=9, function="serve"),
        frames=(Place(file=FILE, line=number + 1, function="serve"),),
        alike=0,
        wait=wait,
        deadlocked=False,
    )
    return dataclasses.replace(task, **changes)


def new_document(folder: Path, **changes: Any) -> Document:
    """Return a document with two threads that wait for one another, but for the changes."""
    one, two = (Node(kind="thread", id=number) for number in (1, 2))
    threads = (
        new_thread(1, wait=new_wait(two), deadlocked=True, frames=3),
        new_thread(2, wait=new_wait(one, text="lock 'accounts'"), deadlocked=True, frames=6),
    )
    lines = tuple(f"    source {number}" for number in range(1, 80))
    document = dataclasses.replace(
        make_document(read_archive(write_archive(folder))),
        threads=threads,
        cycle=(one, two),
        verdict=Verdict(kind="deadlock", text="deadlock: worker-1 waits for lock 'ledger' held by worker-2"),
        sources=(Excerpt(file=FILE, first=1, lines=lines),),
    )
    return dataclasses.replace(document, **changes)


def hostile(value: Any, marker: str) -> Any:
    """Return a document with the marker at the end of all texts but those that have a few values."""
    if isinstance(value, str):
        return value + marker
    if isinstance(value, tuple):
        return tuple(hostile(entry, marker) for entry in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    kept = {"kind", "type", "phase"}
    changes = {
        field.name: hostile(getattr(value, field.name), marker)
        for field in dataclasses.fields(value)
        if field.name not in kept
    }
    return dataclasses.replace(value, **changes)


def hostile_document(folder: Path, marker: str) -> Document:
    """Return one with every part, all of them with the marker."""
    child = Child(
        pid=7,
        command="sleep",
        state="S",
        age_s=1,
        text="child 7: sleep",
        is_direct=True,
        threads=(new_thread(1),),
        tasks=(new_task(1),),
    )
    document = new_document(
        folder,
        tasks=(new_task(1, wait=new_wait(Node(kind="task", id=1002))), new_task(2)),
        loops=(Loop(id=1, type="Loop", thread=1, tasks=2, ready=None),),
        children=(child,),
        failure="E   assert",
        failure_frames=(new_frame(7),),
        last_output=("the last lines of standard error:",),
        output="output",
        evidence=("What everything waits for:",),
        unreadable=("stacks.json",),
    )
    changed: Document = hostile(document, marker)
    sources = tuple(
        dataclasses.replace(excerpt, file=f"{FILE}{marker}", first=1) for excerpt in changed.sources
    )
    return dataclasses.replace(changed, sources=sources)


def large_document(folder: Path) -> Document:
    """Return one of 50 threads with 60 frames each, all different, and of 2,000 tasks."""
    holder = Node(kind="thread", id=1)
    threads = tuple(
        new_thread(number, frames=60, wait=new_wait(holder, text=f"lock {number}")) for number in range(1, 51)
    )
    tasks = tuple(new_task(number, wait=new_wait(text=f"event {number}")) for number in range(2000))
    return new_document(folder, threads=threads, tasks=tasks, cycle=())
