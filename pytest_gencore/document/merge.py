"""Bring together what stacks, diagnosis and manifest know of the same threads."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.archive.diagnosis_file import Node
from pytest_gencore.document.model import StuckTask, Thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_gencore.archive import manifest
    from pytest_gencore.archive.diagnosis_file import ThreadFacts, Wait, WaitFacts
    from pytest_gencore.archive.stacks_file import ThreadStack


class Merged(NamedTuple):
    """The threads and tasks of one process."""

    threads: tuple[Thread, ...]
    tasks: tuple[StuckTask, ...]


def merge(
    stacks: Iterable[ThreadStack], waits: WaitFacts | None, listed: Sequence[manifest.Thread]
) -> Merged:
    """Return one thread for each that any of them has; the order is that of the stacks."""
    stuck = frozenset(waits.deadlocked if waits else ())
    known = list(waits.threads if waits else ())
    threads = [_thread(stack, _take(known, stack), stuck) for stack in stacks]
    threads += [_thread(None, facts, stuck) for facts in known]
    seen = {thread.native_id for thread in threads}
    threads += [
        _listed(thread, is_first=not number) for number, thread in enumerate(listed) if thread.tid not in seen
    ]
    tasks = [
        StuckTask(
            **{field.name: getattr(task, field.name) for field in dataclasses.fields(task)},
            deadlocked=Node(kind="task", id=task.id) in stuck,
        )
        for task in (waits.tasks if waits else ())
    ]
    return Merged(tuple(threads), tuple(tasks))


def find_cycle(merged: Merged) -> tuple[Node, ...]:
    """Return those that wait for one another in a circle, the thread that captured first if it is in it."""
    waits = {node: wait for node, wait, is_stuck in find_waits(merged.threads, merged.tasks) if is_stuck}
    own = {thread.ident for thread in merged.threads if thread.captured}
    looked_at: set[Node] = set()
    for start in sorted(waits, key=lambda node: node.kind != "thread" or node.id not in own):
        path: dict[Node, None] = {}
        node: Node | None = start
        while node is not None and node not in looked_at:
            looked_at.add(node)
            path[node] = None
            node = next((holder for holder in waits[node].holders if holder in waits), None)
        if node in path:
            nodes = list(path)
            return tuple(nodes[nodes.index(node) :])
    return ()


def find_waits(threads: Iterable[Thread], tasks: Iterable[StuckTask]) -> Iterator[tuple[Node, Wait, bool]]:
    """Yield who waits, what for, and whether it cannot go on, of the threads and tasks of one process."""
    for thread in threads:
        if thread.wait is not None and thread.ident is not None:
            yield Node(kind="thread", id=thread.ident), thread.wait, thread.deadlocked
    for task in tasks:
        if task.wait is not None:
            yield Node(kind="task", id=task.id), task.wait, task.deadlocked


def _take(known: list[ThreadFacts], stack: ThreadStack) -> ThreadFacts | None:
    """Remove what is known of a thread, by its native id, else its ident, and return it."""
    for facts in known:
        same = facts.native_id == stack.native_id if stack.native_id and facts.native_id else False
        if same or (stack.ident and facts.ident == stack.ident):
            known.remove(facts)
            return facts
    return None


def _thread(stack: ThreadStack | None, facts: ThreadFacts | None, stuck: frozenset[Node]) -> Thread:
    """Return a thread of which at least one of them is known."""
    ident = facts.ident if facts else stack.ident if stack else None
    return Thread(
        native_id=(stack and stack.native_id) or (facts and facts.native_id) or None,
        ident=ident,
        name=(facts and facts.name) or (stack and stack.name) or None,
        captured=stack.captured if stack else bool(facts and facts.captured),
        holds_gil=stack.holds_gil if stack else None,
        activity=stack.activity if stack else None,
        place=facts.place if facts else None,
        wait=facts.wait if facts else None,
        deadlocked=ident is not None and Node(kind="thread", id=ident) in stuck,
        frames=stack.frames if stack else None,
        cut=stack.cut if stack else False,
    )


def _listed(thread: manifest.Thread, *, is_first: bool) -> Thread:
    """Return a thread of which only the kernel knows: none of Python's, or one that nobody has read."""
    return Thread(
        native_id=thread.tid,
        ident=None,
        name=thread.name,
        captured=is_first,
        holds_gil=None,
        activity=None,
        place=None,
        wait=None,
        deadlocked=False,
        frames=None,
        cut=False,
    )
