"""The lines of the diagnosis: the verdict, then the evidence; for the log, for ``stacks.txt``, as JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.collector.diagnosis.graph import Node, waits_in_order
from pytest_gencore.collector.diagnosis.task_words import project_place
from pytest_gencore.texts import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gencore.collector.diagnosis.forked_words import ForkedChild
    from pytest_gencore.collector.diagnosis.graph import Edge, Graph
    from pytest_gencore.collector.diagnosis.system.children import Child
    from pytest_gencore.collector.diagnosis.verdict import Verdict
    from pytest_gencore.collector.diagnosis.words import Words

LOG_LINES: Final = 20
FULL_LINES: Final = 5000
_KEEPERS_SHOWN: Final = 10
_LINE_LENGTH: Final = 1000
_CUT: Final = "  ... there is more, which could not be read in time"
_TITLE: Final = "What everything waits for:"


def make_lines(
    graph: Graph, words: Words, limit: int, forked: Sequence[ForkedChild] = (), *, is_short: bool = False
) -> list[str]:
    """Return the evidence in at most ``limit`` lines; empty if nothing waits.

    ``forked``: children that have told what they wait for. ``is_short``: without threads of libraries for
    which nobody waits.
    """
    children = graph.system.children if graph.system is not None else []
    lines = [
        *_thread_lines(graph, words, is_short=is_short),
        *_task_lines(graph, words),
        *(line for child in children for line in _child_lines(child, forked)),
        *([_CUT] if graph.facts.cuts else []),
    ]
    if not lines:
        return []
    if len(lines) > limit - 1:
        left_out = len(lines) - (limit - 2)
        lines = [*lines[: limit - 2], f"  ... {left_out} more in stacks.txt"]
    return [_TITLE, *(printable(line, _LINE_LENGTH) for line in lines)]


def to_json(graph: Graph, words: Words, verdict: Verdict | None, lines: list[str]) -> dict[str, Any]:
    """Return the contents of ``diagnosis.json``: see docs/reference/archive.md; ``lines``: for people."""
    facts = graph.facts
    return {
        "verdict": None if verdict is None else {"kind": verdict.kind, "text": verdict.text},
        "lines": lines,
        "complete": facts.is_complete,
        "gil": facts.gil,
        "threads": [
            {
                "ident": thread.id,
                "native_id": thread.native_id,
                "name": thread.name,
                "captured": thread.is_own,
                "place": thread.project,
                "wait": _edge_json(graph, words, Node("thread", thread.id)),
            }
            for thread in facts.threads.values()
        ],
        "tasks": [
            {
                "id": task.id,
                "name": task.name,
                "framework": task.framework,
                "coroutine": task.coroutine,
                "running": task.is_current,
                "place": project_place(task),
                "frames": task.frames,
                "alike": task.alike,
                "wait": _edge_json(graph, words, Node("task", task.id)),
            }
            for task in facts.tasks.values()
        ],
        "loops": [
            {
                "id": loop.id,
                "type": loop.type,
                "thread": loop.thread,
                "tasks": loop.tasks,
                "ready": loop.ready,
            }
            for loop in facts.loops.values()
        ],
        "deadlocked": [list(node) for node in sorted(graph.deadlocked)],
        "system": None if graph.system is None else graph.system.to_json(),
    }


def _edge_json(graph: Graph, words: Words, node: Node) -> dict[str, Any] | None:
    edge = graph.edges.get(node)
    if edge is None:
        return None
    name = graph.facts.names.get(edge.wait.resource or 0)
    return {
        "kind": edge.wait.kind,
        "text": words.what(edge),
        "resource": edge.wait.resource,
        "name": None if name is None else name.text,
        "timeout_seconds": edge.wait.timeout,
        "holders": [list(holder) for holder in edge.holders],
    }


def keeper_lines(graph: Graph, words: Words) -> list[str]:
    """Return a line for each thread that keeps a process alive whose session is over."""
    lines = []
    for thread in graph.facts.threads.values():
        if thread.keeps_alive:
            node = Node("thread", thread.id)
            edge = graph.edges.get(node)
            doing = f"; it waits {_tail(words, edge)}" if edge is not None else ""
            lines.append(f"  {_head(words, node)} is not a daemon{doing}")
    return ["What keeps the process alive:", *lines[:_KEEPERS_SHOWN]] if lines else []


def _thread_lines(graph: Graph, words: Words, *, is_short: bool) -> Iterator[str]:
    """Yield a line for each wait of threads; those of the same kind of threads together."""
    groups: dict[str, list[str]] = {}
    awaited = {holder for edge in graph.edges.values() for holder in edge.holders}
    for edge in waits_in_order(graph):
        if edge.waiter.kind != "thread" or edge.wait.kind == "loop":
            continue
        thread = graph.thread(edge.waiter)
        if is_short and thread is not None and thread.project is None and edge.waiter not in awaited:
            continue
        groups.setdefault(_tail(words, edge), []).append(_head(words, edge.waiter))
    for tail, names in groups.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield f"  {shown} {'waits' if len(names) == 1 else 'wait'} {tail}"


def _child_lines(child: Child, forked: Sequence[ForkedChild]) -> Iterator[str]:
    yield f"  {child.describe()}"
    for told in forked:
        if told.pid == child.pid:
            yield from (f"  {line}" for line in _thread_lines(told.graph, told.words, is_short=False))
            yield from (f"  {line}" for line in _task_lines(told.graph, told.words))


def _head(words: Words, node: Node) -> str:
    place = words.place_of(node)
    return f"{words.name(node)} ({place})" if place else words.name(node)


def _tail(words: Words, edge: Edge) -> str:
    text = words.whole(edge)
    if edge.holders and edge.holds and edge.holds[0].times > 1:
        text += f", taken {edge.holds[0].times} times"
    return text


def _task_lines(graph: Graph, words: Words) -> Iterator[str]:
    facts = graph.facts
    awaited: dict[int, list[str]] = {}
    for edge in graph.edges.values():
        for holder in edge.holders:
            if holder.kind == "task" and edge.wait.kind != "lock":
                awaited.setdefault(holder.id, []).append(words.name(edge.waiter))
    for loop in facts.loops.values():
        if not loop.tasks:
            continue
        thread = words.name(Node("thread", loop.thread)) if loop.thread in facts.threads else ""
        title = f"{loop.type} of {thread}" if thread else loop.type
        callbacks = "callback" if loop.ready == 1 else "callbacks"
        due = f", {loop.ready} {callbacks} due ({', '.join(loop.due)})" if loop.ready else ""
        yield f"  {title}: {loop.tasks} task{'s' if loop.tasks != 1 else ''}{due}"
    order = [edge.waiter.id for edge in waits_in_order(graph) if edge.waiter.kind == "task"]
    numbers = dict.fromkeys([number for number in order if number in facts.tasks])
    counts: dict[tuple[str, str], int] = {}
    for number in [*numbers, *(number for number in facts.tasks if number not in numbers)]:
        task = facts.tasks[number]
        by = list(dict.fromkeys(awaited.get(number, [])[:3]))
        tail = f"; awaited by {', '.join(by)}" if by else ""
        if not by and not task.is_main and task.framework == "asyncio" and facts.is_complete:
            tail = "; awaited by no task"
        line = _describe_task(graph, words, number, tail)
        counts[line] = counts.get(line, 0) + 1 + task.alike
    for (title, rest), count in counts.items():
        more = f" and {count - 1} more like it" if count > 1 else ""
        yield f"    {title}{more} {re.sub('^waits ', 'wait ', rest) if more else rest}"


def _describe_task(graph: Graph, words: Words, number: int, tail: str) -> tuple[str, str]:
    """Return which task it is, and what it does: those with the same texts are told together."""
    task, node = graph.facts.tasks[number], Node("task", number)
    edge = graph.edges.get(node)
    place = words.place(project_place(task))
    title = words.name(node, with_kind=True) + (f" ({place})" if place else "")
    does = f"waits {_tail(words, edge)}" if edge is not None else _state_of(task.is_current, task.framework)
    return title, does + tail


def _state_of(is_current: bool, framework: str) -> str:
    if is_current:
        return "runs, or is inside of a call"
    return "is to run next" if framework == "asyncio" else "is suspended"
