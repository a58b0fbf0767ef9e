"""What the page shows of a document: what is equal is folded, what matters comes first."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.document.words import (
    Names,
    describe_thread,
    describe_trigger,
    is_project_file,
    name_task,
    name_thread,
    short_path,
)
from pytest_gencore.page.picture import Picture, make_pictures
from pytest_gencore.page.source import Sources
from pytest_gencore.texts import name_subject
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.archive.stacks_file import Frame
    from pytest_gencore.document.model import Child, Document, StuckTask, Thread
    from pytest_gencore.page.source import Line

_STOPS: Final = 3
"""Frames of the project that the head of the page shows."""
_PICTURES: Final = 4
"""Those that are shown at once."""
_DRAWN: Final = 40
"""Pictures in all: the others are only counted."""
_FEW_TASKS: Final = 4
"""So many are open at once."""


@dataclass(frozen=True, slots=True)
class Call:
    """A frame."""

    title: str
    where: str
    project: bool
    lines: tuple[Line, ...]
    locals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Frames one after the other that are all the project's, or all not."""

    project: bool
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Waiter:
    """Threads or tasks that do the same."""

    title: str
    remark: str
    stuck: bool
    first: bool
    runs: tuple[Run, ...]
    unknown: bool
    cut: bool
    members: tuple[str, ...]
    """All names, if there are several."""


@dataclass(frozen=True, slots=True)
class Kin:
    """A child."""

    title: str
    threads: tuple[Waiter, ...]
    tasks: tuple[Waiter, ...]


@dataclass(frozen=True, slots=True)
class View:
    """One capture."""

    id: str
    title: str
    event: str
    file: str
    size: str
    commands: tuple[tuple[str, str], ...]
    document: Document
    stops: tuple[Call, ...]
    stops_of: str
    pictures: tuple[Picture, ...]
    more_pictures: tuple[Picture, ...]
    undrawn: int
    threads: tuple[Waiter, ...]
    tasks: tuple[Waiter, ...]
    loops: tuple[str, ...]
    children: tuple[Kin, ...]
    facts: tuple[tuple[str, str], ...]
    timings: tuple[tuple[str, str], ...]


class _About(NamedTuple):
    """What is needed to tell of a process."""

    names: Names
    sources: Sources
    rootdir: str


def make_view(document: Document, number: int) -> View:
    """Return what the page shows of one document; ``number`` tells it from others of the page."""
    test, archive = document.test, document.archive
    rootdir = test.rootdir
    about = _About(Names(document.threads, document.tasks), Sources(document.sources), rootdir)
    pictures = make_pictures(document)
    stops, whose = _find_stops(document)
    phase = f" ({test.phase})" if test.phase else ""
    return View(
        id=f"c{number}",
        title=name_subject(test.nodeid, test.place, f"process {document.process.pid}") + phase,
        event=describe_trigger(document.trigger),
        file=PurePath(archive.path).name,
        size=format_size(archive.size),
        commands=tuple(_commands(document)),
        document=document,
        stops=tuple(_call(frame, about, is_short=True) for frame in stops),
        stops_of=whose,
        pictures=tuple(pictures[:_PICTURES]),
        more_pictures=tuple(pictures[_PICTURES:_DRAWN]),
        undrawn=max(0, len(pictures) - _DRAWN),
        threads=_threads(document.threads, about),
        tasks=_tasks(document.tasks, about),
        loops=tuple(f"{loop.type}: {loop.tasks} tasks" for loop in document.loops),
        children=tuple(_child(child, about) for child in document.children),
        facts=tuple(_facts(document)),
        timings=tuple(_timings(document)),
    )


def _commands(document: Document) -> list[tuple[str, str]]:
    """Return what opens the archive in its folder."""
    file = shlex.quote(PurePath(document.archive.path).name)
    found = [("stacks", f"gencore stacks {file}")]
    return [("debugger", f"gencore debug {file}"), *found] if document.archive.core else found


def _find_stops(document: Document) -> tuple[list[Frame], str]:
    """Return the innermost frames of the project in whom the capture is about, and who that is."""
    first = document.threads[0] if document.threads else None
    frames = document.failure_frames or (first.frames if first is not None else None) or ()
    who = "the failure" if document.failure_frames else name_thread(first) if first is not None else ""
    return [frame for frame in frames if frame.project][-_STOPS:], who


def _threads(threads: Sequence[Thread], about: _About) -> tuple[Waiter, ...]:
    groups: dict[object, list[Thread]] = {}
    for number, thread in enumerate(threads):
        frames = thread.frames and tuple(replace(frame, locals=()) for frame in thread.frames)
        wait = thread.wait and (thread.wait.text, thread.wait.holders)
        key = (number == 0, thread.deadlocked, thread.activity, wait, frames, not thread.name and not frames)
        groups.setdefault(key, []).append(thread)
    return tuple(_thread_group(group, about) for group in groups.values())


def _thread_group(group: list[Thread], about: _About) -> Waiter:
    first = group[0]
    names = [f"{name_thread(thread)}, native id {thread.native_id}" for thread in group]
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    return Waiter(
        title=f"{name_thread(first)}{more}",
        remark=describe_thread(first, about.names).partition(", ")[2],
        stuck=first.deadlocked,
        first=first.captured or first.deadlocked,
        runs=_group_runs([_call(frame, about) for frame in first.frames or ()]),
        unknown=first.frames is None,
        cut=first.cut,
        members=tuple(names) if more else (),
    )


def _tasks(tasks: Sequence[StuckTask], about: _About) -> tuple[Waiter, ...]:
    groups: dict[object, list[StuckTask]] = {}
    for task in tasks:
        wait = task.wait and (task.wait.text, task.wait.holders)
        groups.setdefault((task.coroutine, task.frames, wait, task.deadlocked, task.running), []).append(task)
    is_few = len(groups) <= _FEW_TASKS
    return tuple(_task_group(group, about, is_open=is_few) for group in groups.values())


def _task_group(group: list[StuckTask], about: _About, *, is_open: bool) -> Waiter:
    first = group[0]
    count = sum(1 + task.alike for task in group)
    calls = tuple(
        Call(
            title=place.function,
            where=_where(place.file, place.line, about.rootdir),
            project=is_project_file(place.file, about.rootdir),
            lines=about.sources.around(place.file, place.line),
            locals=(),
        )
        for place in first.frames
    )
    state = "runs, or is inside of a call" if first.running else "is to run next, or is suspended"
    return Waiter(
        title=f"{name_task(first)}{f' and {count - 1} more' if count > 1 else ''}",
        remark=f"{first.framework}, " + (about.names.describe_wait(first.wait) if first.wait else state),
        stuck=first.deadlocked,
        first=is_open or first.deadlocked,
        runs=_group_runs(calls),
        unknown=not calls,
        cut=False,
        members=tuple(name_task(task) for task in group) if len(group) > 1 else (),
    )


def _child(child: Child, about: _About) -> Kin:
    inner = about._replace(names=Names(child.threads, child.tasks))
    return Kin(
        title=child.text,
        threads=_threads(child.threads, inner),
        tasks=_tasks(child.tasks, inner),
    )


def _group_runs(calls: Sequence[Call]) -> tuple[Run, ...]:
    grouped = groupby(calls, key=lambda call: call.project)
    return tuple(Run(project, tuple(group)) for project, group in grouped)


def _call(frame: Frame, about: _About, *, is_short: bool = False) -> Call:
    lines = about.sources.around(frame.file, frame.line, 1 if is_short else None) if frame.project else ()
    if not lines and frame.source:
        lines = about.sources.only(frame.line, frame.source)
    return Call(
        title=frame.function,
        where=_where(frame.file, frame.line, about.rootdir) or (frame.library or ""),
        project=frame.project,
        lines=lines,
        locals=() if is_short else tuple(f"{local.name} = {local.value}" for local in frame.locals),
    )


def _where(file: str, line: int | None, rootdir: str) -> str:
    return f"{short_path(file, rootdir)}:{line}" if line and file else file


def _facts(document: Document) -> list[tuple[str, str]]:
    process, versions = document.process, document.versions
    parent = f", child of process {process.child_of}" if process.child_of else ""
    facts = [
        ("process", f"{process.pid}{parent}"),
        ("Python", f"{versions.python.implementation} {versions.python.version}"),
        ("system", f"{versions.kernel} {versions.machine}"),
        ("executable", process.executable or ""),
        ("worker", document.test.worker_id or ""),
        ("attempt", str(document.test.attempt)),
        (
            "GIL",
            {"own": "held by the thread that captured", "other": "held by another thread"}.get(
                process.gil or "", process.gil or ""
            ),
        ),
        ("descriptors", "" if process.descriptor_count is None else str(process.descriptor_count)),
        ("children", "" if process.child_count is None else str(process.child_count)),
        ("environment", "\n".join(process.environment)),
    ]
    return [(name, text) for name, text in facts if text]


def _timings(document: Document) -> list[tuple[str, str]]:
    timings = document.timings
    values = [
        ("created", document.archive.created),
        ("threads stopped after", timings.stop_ms and f"{timings.stop_ms:.1f} ms"),
        ("snapshot", timings.snapshot_ms and f"{timings.snapshot_ms:.1f} ms"),
        ("threads stood still", timings.pause_ms and f"{timings.pause_ms:.1f} ms"),
        ("archive written after", timings.collect_s and f"{timings.collect_s:.1f} s"),
        ("made by", f"pytest-gencore {document.versions.pytest_gencore}"),
    ]
    return [(name, text) for name, text in values if text]
