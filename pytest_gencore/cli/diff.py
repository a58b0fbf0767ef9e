"""``gencore diff``: what was different between two captures, as of a test that sometimes hangs."""

from __future__ import annotations

import difflib
from collections import defaultdict
from typing import TYPE_CHECKING

import click

from pytest_gencore.cli.options import ARCHIVE_KEY, ArchiveFile, examples
from pytest_gencore.cli.sealed import identity_option, read_given
from pytest_gencore.document.alike import describe_call, without_numbers
from pytest_gencore.document.encode import make_document
from pytest_gencore.document.words import Names, describe_trigger, name_task, name_thread
from pytest_gencore.texts import escape_unprintable, name_subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gencore.archive.diagnosis_file import Place
    from pytest_gencore.archive.opening import ArchivePlace
    from pytest_gencore.archive.stacks_file import Frame
    from pytest_gencore.document.model import Document, StuckTask, Thread

_COLOURS = {"-": "red", "+": "green", "@": "cyan"}


@click.command(
    epilog=examples("gencore diff core_20261121.225921.9520.001.tar.gz core_20261122.031502.4101.001.tar.gz")
)
@click.argument("old", metavar="A", type=ArchiveFile())
@click.argument("new", metavar="B", type=ArchiveFile())
@identity_option
def diff(old: ArchivePlace, new: ArchivePlace) -> None:
    """Show what differs between two captures: test, trigger, verdict, threads, tasks, children, versions.

    What differs from run to run is left out: process ids, addresses, times; and values of variables. Calls
    of Python are compared, those of compiled code are not. Exit status 0 if nothing differs, 1 if something
    does, or if an archive cannot be read.
    """
    documents = [_read(path) for path in (old, new)]
    lines = list(compare(*documents))
    if not lines:
        return
    for mark, document in zip(("---", "+++"), documents, strict=True):
        _echo(f"{mark} {document.archive.path} {document.archive.created}")
    for line in lines:
        _echo(line)
    raise SystemExit(1)


def _read(path: ArchivePlace) -> Document:
    click.get_current_context().meta[ARCHIVE_KEY] = path
    return make_document(read_given(path))


def compare(old: Document, new: Document) -> Iterator[str]:
    """Yield the lines of a unified diff, part by part; none if nothing differs."""
    before, after = dict(_parts(old)), dict(_parts(new))
    for title in dict.fromkeys([*before, *after]):
        lines = list(_compare_part(before.get(title, []), after.get(title, [])))
        if lines:
            yield f"@@ {title} @@"
            yield from lines


def _compare_part(before: list[str], after: list[str]) -> Iterator[str]:
    header = 2
    for number, line in enumerate(difflib.unified_diff(before, after, n=2, lineterm="")):
        if number > header and line.startswith("@@"):
            yield " ..."
        elif number >= header and not line.startswith("@@"):
            yield line


def _parts(document: Document) -> Iterator[tuple[str, list[str]]]:
    """Yield titles and lines, without what no two captures have in common."""
    test, trigger, versions = document.test, document.trigger, document.versions
    names = Names(document.threads, document.tasks)
    yield "test", [f"{name_subject(test.nodeid, test.place, 'no test')} ({test.phase or 'no phase'})"]
    said = [] if trigger.abort_message is None else [f"glibc: {trigger.abort_message}"]
    yield "trigger", [without_numbers(line) for line in (describe_trigger(trigger), *said)]
    yield "verdict", [without_numbers(document.verdict.text) if document.verdict else "none"]
    yield "failure", _calls(document.failure_frames, document)
    threads = [(name_thread(thread), _thread(thread, names, document)) for thread in document.threads]
    yield from _by_name("thread", threads)
    yield from _by_name("task", [(name_task(task), _task(task, names, document)) for task in document.tasks])
    yield "children", sorted(without_numbers(child.command) for child in document.children)
    python = versions.python
    yield (
        "versions",
        [
            f"pytest-gencore {versions.pytest_gencore}",
            f"{python.implementation} {python.version}",
            f"{versions.kernel} {versions.machine}",
        ],
    )
    yield "names of variables", sorted(entry.partition("=")[0] for entry in document.process.environment)


def _by_name(kind: str, described: Sequence[tuple[str, list[str]]]) -> Iterator[tuple[str, list[str]]]:
    """Yield them by name without numbers; several of one name in the order of their lines."""
    named: dict[str, list[list[str]]] = defaultdict(list)
    for name, lines in described:
        named[without_numbers(name)].append(lines)
    for name, groups in named.items():
        for number, lines in enumerate(sorted(groups), start=1):
            yield f"{kind} {name}" + (f", {number} of that name" if number > 1 else ""), lines


def _thread(thread: Thread, names: Names, document: Document) -> list[str]:
    if thread.wait is not None:
        does = names.describe_wait(thread.wait)
    else:
        does = thread.activity or "nothing is known to be waited for"
    stack = ["frames not known"] if thread.frames is None else _calls(thread.frames, document)
    return [without_numbers(does), *(["cannot go on"] if thread.deadlocked else []), *stack]


def _task(task: StuckTask, names: Names, document: Document) -> list[str]:
    does = names.describe_wait(task.wait) if task.wait else "runs" if task.running else "does not run"
    stuck = ["cannot go on"] if task.deadlocked else []
    return [without_numbers(does), *stuck, *_calls(task.frames, document)]


def _calls(frames: Sequence[Frame | Place], document: Document) -> list[str]:
    rootdir = document.test.rootdir
    return [describe_call(frame, rootdir) for frame in frames if not getattr(frame, "native", False)]


def _echo(line: str) -> None:
    click.secho(escape_unprintable(line), fg=_COLOURS.get(line[:1]), bold=line.startswith(("---", "+++")))
