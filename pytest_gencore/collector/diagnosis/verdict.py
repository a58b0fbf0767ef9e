"""The verdict: one line that says why the test does not go on; none if that was not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.texts import printable

if TYPE_CHECKING:
    from pytest_gencore.collector.diagnosis.graph import Edge, Graph, Node
    from pytest_gencore.collector.diagnosis.words import Words

_LINKS_LIMIT: Final = 6
_LENGTH: Final = 2000
_BUSY: Final = 0.02
"""A machine may have much more to do than this test."""


class Verdict(NamedTuple):
    """What was found."""

    kind: str
    """``deadlock``, ``asyncio``, ``waits`` or ``busy``."""
    text: str


def find_verdict(
    graph: Graph, words: Words, *, is_hang: bool, busy: float | None = None, was_seen: bool = False
) -> Verdict | None:
    """Return the verdict, safe to show; None if nothing is known.

    ``is_hang``: a deadline passed. Else the thread of the test was not blocked, and only a deadlock is news.
    ``busy``: how much of that time, 0 to 1, the thread of the test has used a processor; None: not known.
    ``was_seen``: it was seen to run; else the system calls must say so.
    """
    found = _find(graph, words, is_hang=is_hang, busy=busy, was_seen=was_seen)
    return None if found is None else Verdict(found.kind, printable(found.text, _LENGTH))


def _find(graph: Graph, words: Words, *, is_hang: bool, busy: float | None, was_seen: bool) -> Verdict | None:
    circle, is_own = graph.circle()
    if is_own:
        return Verdict("deadlock", _with_doubt(graph, _tell_circle(words, circle)))
    others = f"{_tell_circle(words, circle)}, beside the test" if circle else ""
    own = _find_own(graph, words) or _find_busy(graph, words, busy, was_seen=was_seen) if is_hang else None
    if own is None:
        return Verdict("deadlock", _with_doubt(graph, others)) if circle else None
    text = "; ".join(part for part in (own.text, others) if part)
    return Verdict(own.kind, _with_doubt(graph, text))


def tell_waits(graph: Graph, words: Words) -> str:
    """Return what another process than the captured one waits for; empty if that is not known."""
    circle, is_own = graph.circle()
    start, thread = graph.start(), graph.facts.own
    if start is None or thread is None:
        return ""
    place = words.place_of(start)
    head = f"{words.name(start, with_kind=True)} ({place})" if place else words.name(start, with_kind=True)
    if circle and is_own:
        return _with_doubt(graph, _tell_circle(words, circle))
    waits = _tell_from(graph, words, start, with_subject=False)
    if waits:
        return _with_doubt(graph, f"{head} {waits}")
    doing = words.doing(thread.wait) if thread.wait is not None else ""
    return f"{head} is in {doing}" if doing else f"{head} runs"


def _find_own(graph: Graph, words: Words) -> Verdict | None:
    """Return what the test itself waits for."""
    start = graph.start()
    if start is None:
        return None
    is_task = start.kind == "task"
    waits = _tell_from(graph, words, start, with_subject=is_task)
    if not waits:
        return None
    return Verdict("asyncio", f"asyncio: {waits}") if is_task else Verdict("waits", waits)


def _tell_from(graph: Graph, words: Words, start: Node, *, with_subject: bool) -> str:
    """Return the chain of waits from a node, and what is known of its end; empty if it waits for nothing."""
    edges, closing = graph.chain(start)
    if not edges:
        return ""
    end = "" if closing is not None else _tell_end(graph, words, edges[-1])
    return _tell_chain(words, edges, with_subject=with_subject) + end


def _find_busy(graph: Graph, words: Words, busy: float | None, *, was_seen: bool) -> Verdict | None:
    """Return that the thread of the test runs: it is in no system call, and did use a processor."""
    thread = graph.facts.own
    if busy is None or busy < _BUSY or thread is None:
        return None
    if graph.system is None and not was_seen:
        return None
    if graph.system is not None and thread.native_id in graph.system.calls:
        return None
    call = words.doing(thread.wait) if thread.wait is not None else ""
    place = words.place(thread.project)
    where = f" in {call}, {place}" if call and place else f" at {place}" if place else ""
    return Verdict("busy", f"busy: {round(100 * min(busy, 1))} % CPU{where}")


def _tell_circle(words: Words, circle: list[Edge]) -> str:
    has_timeout = any(edge.wait.timeout is not None for edge in circle)
    end = " (at least one of these waits has a timeout)" if has_timeout else ""
    return f"deadlock: {_tell_chain(words, circle, with_subject=True)}{end}"


def _with_doubt(graph: Graph, text: str) -> str:
    return f"{text} (as far as known: another thread held the GIL)" if graph.facts.gil == "other" else text


def _tell_chain(words: Words, edges: list[Edge], *, with_subject: bool) -> str:
    """Return ``MainThread waits for lock 'a' held by T (f.py:3), which waits for ...``."""
    parts = []
    for number, edge in enumerate(edges[:_LINKS_LIMIT]):
        part = f"waits {words.whole(edge)}"
        is_last = number == len(edges[:_LINKS_LIMIT]) - 1
        if edge.holders and not words.holder(edge) and not is_last:
            where = words.place_of(edges[number + 1].waiter)
            part += f" ({where})" if where else ""
        parts.append(part)
    text = ", which ".join(parts)
    if len(edges) > _LINKS_LIMIT:
        text += ", and so on"
    return f"{words.name(edges[0].waiter)} {text}" if with_subject else text


def _tell_end(graph: Graph, words: Words, last: Edge) -> str:
    """Say what the holder at the end of a chain does, who himself waits for nothing that is known."""
    told = words.told_by_child(last)
    if told:
        return f": {told}"
    holder: Node | None = next(iter(last.holders), None)
    thread = graph.thread(holder) if holder is not None else None
    if holder is None or thread is None or holder == last.waiter:
        return ""
    place = words.place_of(holder)
    doing = words.doing(thread.wait) if thread.wait is not None else ""
    if doing:
        return f", which is in {doing}" + (f", {place}" if place else "")
    return f", which runs at {place}" if place else ""
