"""What readers take from ``diagnosis.json``; the collector's ``diagnosis.report`` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_gencore.archive.manifest import item

NodeKind = Literal["thread", "task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A line of source."""

    file: str = item("As the code object has it; usually an absolute path")
    line: int | None = item("1 for the first; null if not known")
    function: str = item("Qualified where that is known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A thread or a task."""

    kind: NodeKind = item("Which of them")
    id: int = item("`ident` of a thread, `id` of a task")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a thread or a task waits for."""

    kind: str = item("Such as lock, queue, task, call; more may come")
    text: str = item("What, in words")
    resource: int | None = item("Address of the lock, queue, event or future; the same one for all who wait")
    name: str | None = item("How the program refers to that")
    timeout_seconds: float | None = item("Seconds that were given; null for ever, or not known")
    holders: tuple[Node, ...] = item("Who has it, or whose end is awaited; empty if nobody is known")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadFacts:
    """A thread, as Python knew it."""

    ident: int = item("`threading.get_ident()`")
    native_id: int | None = item("The kernel's thread id")
    name: str | None = item("The name that `threading` knows")
    captured: bool = item("Whether it made the capture")
    place: Place | None = item("Its innermost frame of the project")
    wait: Wait | None = item("What it waits for; null if nothing is known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task of asyncio or trio, a greenlet, or what waits for a Deferred of Twisted."""

    id: int = item("Address of the object")
    name: str | None = item("Its name")
    framework: str = item("asyncio, trio, greenlet or twisted")
    coroutine: str | None = item("Name of the coroutine")
    running: bool = item("Whether it runs, or has called what its thread is inside of")
    place: Place | None = item("Its innermost frame of the project, else the innermost")
    frames: tuple[Place, ...] = item("Outermost first")
    alike: int = item("How many more stand where this one does")
    wait: Wait | None = item("What it waits for; null if nothing is known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """An event loop."""

    id: int = item("Address of the object")
    type: str = item("Name of its class")
    thread: int | None = item("`ident` of the thread that runs it")
    tasks: int = item("How many tasks it has")
    ready: int | None = item("How many callbacks are due; null if not known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """An open file descriptor."""

    fd: int = item("Its number")
    kind: str = item("Such as file, pipe, socket, device")
    text: str = item("What it is, in words")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildFacts:
    """A child of the captured process, or a child of that."""

    pid: int = item("Its process id")
    command: str = item("Its command line, the beginning")
    state: str = item("The letter in /proc/PID/stat: R runs, S sleeps, D waits for a device, Z has ended")
    age_s: float = item("Seconds from its start to the capture")
    text: str = item("All of it in words")
    is_direct: bool = item("False for a child of a child")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFacts:
    """What the kernel knows of the process."""

    descriptors: tuple[Descriptor, ...] = item("Open file descriptors")
    descriptor_count: int | None = item("How many there are; null if not known")
    children: tuple[ChildFacts, ...] = item("Children, and their children; 32 at most")
    child_count: int | None = item("How many direct children there are; null if not known")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why the test does not go on."""

    kind: str = item("deadlock, asyncio, waits or busy; more may come")
    text: str = item("The line in the log")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitFacts:
    """Who waits for what in one process."""

    complete: bool = item("Whether everything could be looked at")
    gil: str | None = item("own, other or null: who held the GIL")
    threads: tuple[ThreadFacts, ...] = item("Threads of Python")
    tasks: tuple[Task, ...] = item("Tasks")
    loops: tuple[Loop, ...] = item("Event loops")
    deadlocked: tuple[Node, ...] = item("Who cannot go on, whatever happens")
    pid: int = item("The process; 0 for the captured one", default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisFile:
    """``diagnosis.json``."""

    verdict: Verdict | None = item("Null if nothing is known")
    lines: tuple[str, ...] = item("The evidence, as stacks.txt has it")
    waits: WaitFacts = item("Of the captured process")
    system: SystemFacts | None = item("Null if nothing could be read")
    forked: tuple[WaitFacts, ...] = item("Of children by fork that were asked", default=())
