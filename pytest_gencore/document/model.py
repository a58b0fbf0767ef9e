"""The document: its classes make ``document.schema.json`` and the table in docs/reference/document.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pytest_gencore.archive.diagnosis_file import (
    ChildFacts,
    Descriptor,
    Loop,
    Node,
    Place,
    Task,
    Verdict,
    Wait,
)
from pytest_gencore.archive.manifest import CoreFacts, RedactionFacts, Timings, TriggerFacts, Versions, item
from pytest_gencore.archive.stacks_file import Frame
from pytest_gencore.contents import ArchiveType

DOCUMENT_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFacts:
    """Which file it is about."""

    path: str = item("As it was given")
    size: int = item("Bytes of the file")
    name: str = item("Of the archive, without .tar.gz")
    type: ArchiveType = item("How much of the process it holds")
    created: str = item("When the capture began: ISO 8601, UTC, milliseconds")
    complete: bool = item("False while it is being written")
    sealed: bool = item("Whether it is sealed and no key was given: most of the rest is then not known")
    core: CoreFacts | None = item("The core; null if there is none")
    open_with: str = item("The command that opens it, in its folder; empty if it does not say")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Which test it is about."""

    nodeid: str | None = item("Null outside of tests")
    phase: str | None = item("setup, call or teardown; null outside of a test")
    place: str = item("Where in or outside of the test, in words; empty if nodeid and phase say it")
    attempt: int = item("1, one more for each rerun")
    worker_id: str | None = item("Of pytest-xdist; null without")
    rootdir: str = item("pytest's; empty if not known")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """The captured process."""

    pid: int = item("Its process id")
    child_of: int | None = item("The process that ran the tests, if a child of it was captured; else null")
    executable: str | None = item("Absolute path of the interpreter")
    environment: tuple[str, ...] = item("Names of its variables, or NAME=VALUE")
    descriptors: tuple[Descriptor, ...] | None = item("Open file descriptors; null if not known")
    descriptor_count: int | None = item("How many there are; null if not known")
    child_count: int | None = item("How many direct children there are; null if not known")
    gil: str | None = item(
        "Who held the GIL: own for the thread that captured, other; null for nobody, or not known"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A thread, with what each source knows of it."""

    native_id: int | None = item("The kernel's thread id")
    ident: int | None = item("`threading.get_ident()`; null for threads without Python, or if not known")
    name: str | None = item("The name that `threading` knows, else the kernel's")
    captured: bool = item("Whether it made the capture, or crashed")
    holds_gil: bool | None = item("Whether it held the GIL; null if not known")
    activity: str | None = item("What it is known to do at the end of its stack, in words; null if not known")
    place: Place | None = item("Its innermost frame of the project; null if there is none, or not known")
    wait: Wait | None = item("What it waits for; null if nothing is known")
    deadlocked: bool = item("Whether it cannot go on, whatever happens")
    frames: tuple[Frame, ...] | None = item(
        "Outermost first; null if they are not known, as in archives of earlier versions"
    )
    cut: bool = item("Whether there may be outer frames that are not here")


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckTask(Task):
    """A task, and whether it can go on."""

    deadlocked: bool = item("Whether it cannot go on, whatever happens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Child(ChildFacts):
    """A child, with what it has told itself."""

    threads: tuple[Thread, ...] = item("Empty if it did not tell them")
    tasks: tuple[StuckTask, ...] = item("Its tasks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """Some lines of a source file of the archive."""

    file: str = item("Absolute path, as frames have it")
    first: int = item("The number of the first line")
    lines: tuple[str, ...] = item("The lines")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """All of it."""

    archive: ArchiveFacts = item("Which file it is about")
    test: Subject = item("Which test")
    trigger: TriggerFacts = item("Why the capture was made")
    verdict: Verdict | None = item("Why the test does not go on; null if that is not known")
    evidence: tuple[str, ...] = item("What everything waits for, in words, as the log has it")
    complete: bool | None = item(
        "Whether all waits could be looked at; null if nothing was looked for, as after a crash"
    )
    process: ProcessFacts = item("The captured process")
    threads: tuple[Thread, ...] = item("The likely culprit first")
    threads_unread: int = item("How many threads of Python nobody looked at")
    tasks: tuple[StuckTask, ...] = item("Tasks of asyncio, trio, greenlets, Twisted")
    loops: tuple[Loop, ...] = item("Event loops")
    cycle: tuple[Node, ...] = item(
        "Of a deadlock: each waits for the next, and the last for the first; empty if there is none"
    )
    children: tuple[Child, ...] = item("Child processes, and their children")
    failure: str | None = item("The failure as pytest prints it; null without one")
    failure_frames: tuple[Frame, ...] = item(
        "Where the failure was raised, if the thread's own stack had been unwound by then"
    )
    last_output: tuple[str, ...] = item("What was printed last, as the log has it")
    output: str | None = item("More of that; null if nothing is known")
    sources: tuple[Excerpt, ...] = item("Source around the lines of the project's frames")
    notices: tuple[str, ...] = item("Sentences about what is missing or doubtful")
    unreadable: tuple[str, ...] = item("Parts of the archive that could not be read, and why")
    redaction: RedactionFacts | None = item(
        "Secret values that were overwritten; null if none were looked for"
    )
    timings: Timings = item("How long the capture took")
    versions: Versions = item("What the capture was made with")
