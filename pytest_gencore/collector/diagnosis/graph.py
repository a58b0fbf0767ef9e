"""Who waits for whom: threads and tasks, the resources between them, and who has those.

An edge is there only if it was read. What nobody is known to have, or what anybody may set, ends a chain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pytest_gencore.collector.diagnosis.facts import Wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.collector.diagnosis.facts import Facts, Hold, Task, Thread
    from pytest_gencore.collector.diagnosis.system.facts import SystemFacts

_CHAIN_LIMIT: Final = 100
_ENDS_LIMIT: Final = 10_000
_ANY: Final = frozenset(("futures", "wait"))
"""Waits that may end with the first of those they wait for: nobody knows which of them is meant."""


class Node(NamedTuple):
    """A thread or a task."""

    kind: Literal["thread", "task"]
    id: int


class Edge(NamedTuple):
    """A waiter and those without whom it cannot go on."""

    waiter: Node
    wait: Wait
    holders: tuple[Node, ...] = ()
    """Empty: nobody is known."""
    needs: Literal["all", "any"] = "all"
    """Whether the wait lasts until all of them go on, or until the first does."""
    is_open: bool = False
    """Whether somebody who is not known may end it as well."""
    holds: tuple[Hold, ...] = ()
    """What is known of each holder's hold, in the same order; empty for other waits than that for a lock."""


@dataclass(slots=True)
class Graph:
    """All edges, and what follows from them."""

    facts: Facts
    system: SystemFacts | None = None
    edges: dict[Node, Edge] = field(default_factory=dict)
    deadlocked: frozenset[Node] = frozenset()
    """Those that cannot go on; apart from timeouts, signals and threads that are not Python's."""

    def thread(self, node: Node) -> Thread | None:
        """Return the thread that a node stands for."""
        return self.facts.threads.get(node.id) if node.kind == "thread" else None

    def task(self, node: Node) -> Task | None:
        """Return the task that a node stands for."""
        return self.facts.tasks.get(node.id) if node.kind == "task" else None

    def start(self) -> Node | None:
        """Return who runs the test: the task for which the captured thread runs a loop, else the thread."""
        own = self.facts.own
        if own is None:
            return None
        if own.wait is not None and own.wait.kind == "loop":
            loop = self.facts.loops.get(own.wait.resource or 0)
            if loop is not None and loop.main in self.facts.tasks:
                return Node("task", loop.main or 0)
        return Node("thread", own.id)

    def chain(self, start: Node) -> tuple[list[Edge], Node | None]:
        """Follow the waits from a node to the last one; return also the node that closes a circle, or None.

        Where there are several holders, one that is deadlocked is followed first.
        """
        edges: list[Edge] = []
        seen: set[Node] = set()
        node: Node | None = start
        while node is not None and node in self.edges and len(edges) < _CHAIN_LIMIT:
            if node in seen:
                return edges, node
            seen.add(node)
            edge = self.edges[node]
            edges.append(edge)
            stuck = [holder for holder in edge.holders if holder in self.deadlocked]
            node = next(iter(stuck or edge.holders), None)
        return edges, None

    def circle(self) -> tuple[list[Edge], bool]:
        """Return the edges of a deadlock, and whether the test runs into it; no edges if there is none."""
        own = self.facts.own
        starts = [self.start(), Node("thread", own.id) if own is not None else None]
        for node in [*starts, *sorted(self.deadlocked)]:
            if node in self.deadlocked and node is not None:
                edges, closing = self.chain(node)
                if closing is not None:
                    return edges, node in starts
        return [], False


def build_graph(facts: Facts, system: SystemFacts | None = None) -> Graph:
    """Return the graph of what the probe has read, and of what is known of system calls."""
    graph = Graph(facts, system)
    for thread in facts.threads.values():
        if thread.wait is None or thread.wait.kind == "call":
            _add_native(graph, thread, system)
        else:
            _add(graph, Node("thread", thread.id), thread.wait)
    for task in facts.tasks.values():
        node = Node("task", task.id)
        _add(graph, node, task.wait)
        if task.wait is None and not task.is_current:
            _add_ready(graph, node, task)
    graph.deadlocked = _find_deadlocked(graph.edges)
    return graph


def _add_native(graph: Graph, thread: Thread, system: SystemFacts | None) -> None:
    """Add the wait of a thread in compiled code: which may run as well, unless it is in a system call."""
    tid = thread.native_id
    if system is None or tid is None or tid not in system.calls:
        return
    node, wait = Node("thread", thread.id), thread.wait or Wait("call")
    owner = system.owner_for(tid)
    if owner is None:
        graph.edges[node] = Edge(node, wait)
        return
    holder, is_sure = owner
    wait = wait._replace(kind="native_lock", details={**wait.details, "is_sure": is_sure})
    holders = tuple(
        Node("thread", other.id) for other in graph.facts.threads.values() if other.native_id == holder
    )
    graph.edges[node] = Edge(node, wait, holders, is_open=not is_sure)


def _add(graph: Graph, node: Node, wait: Wait | None) -> None:
    if wait is None:
        return
    holds = graph.facts.holds.get(wait.resource, []) if wait.resource is not None else []
    if wait.kind == "lock":
        known = one_each(holds) if wait.details.get("locked") is not False else []
        holders = tuple(Node("task" if hold.is_task else "thread", hold.holder) for hold in known)
        graph.edges[node] = Edge(node, wait, holders, holds=tuple(known))
        return
    ends = wait.ends_with
    if wait.kind == "future" and wait.resource is not None and not ends:
        ends = (wait.resource,)
    found, needs = _find_ends(graph.facts, ends)
    if wait.kind in _ANY:
        needs = "any"
    is_open = needs == "any" and any(not _find_ends(graph.facts, (end,))[0] for end in ends)
    graph.edges[node] = Edge(node, wait, tuple(dict.fromkeys(found)), needs, is_open)


def one_each(holds: list[Hold]) -> list[Hold]:
    """Return one hold for each holder: a lock's word for its owner, with the place of the ``with``."""
    owners = [hold for hold in holds if hold.place is None and not hold.is_task]
    placed = {(hold.holder, hold.is_task): hold for hold in holds if hold.place is not None}
    if owners:
        owner = owners[0]
        where = placed.get((owner.holder, False))
        return [owner._replace(place=where.place if where else None)]
    rest = {(hold.holder, hold.is_task): hold for hold in holds if hold.place is None}
    return list({**rest, **placed}.values())


def _find_ends(facts: Facts, ids: tuple[int, ...]) -> tuple[list[Node], Literal["all", "any"]]:
    """Return the threads and tasks whose end, or whose result, is meant."""
    found: list[Node] = []
    needs: Literal["all", "any"] = "all"
    work = list(ids)
    seen: set[int] = set()
    for number in work:  # which grows
        if number in seen or len(seen) == _ENDS_LIMIT:
            continue
        seen.add(number)
        if number in facts.threads:
            found.append(Node("thread", number))
        elif number in facts.tasks:
            found.append(Node("task", number))
        for who, numbers in facts.completes.get(number, ()):
            if who == "future":
                work += numbers
            elif who == "threads":
                needs = "any"
                found += [Node("thread", one) for one in numbers if one in facts.threads]
            else:
                kind: Literal["thread", "task"] = "task" if who == "task" else "thread"
                known = facts.tasks if kind == "task" else facts.threads
                found += [Node(kind, one) for one in numbers if one in known]
    return found, needs


def _add_ready(graph: Graph, node: Node, task: Task) -> None:
    """Let a task that is to run next wait for the thread of its loop, if that is inside of something else."""
    loop = graph.facts.loops.get(task.loop or 0)
    thread = graph.facts.threads.get(loop.thread or 0) if loop is not None else None
    if thread is None or thread.wait is None or thread.wait.kind == "loop":
        return
    graph.edges[node] = Edge(node, Wait("loop_thread", resource=task.loop), (Node("thread", thread.id),))


def _find_deadlocked(edges: dict[Node, Edge]) -> frozenset[Node]:
    """Return the nodes that remain when all are taken away that may go on, again and again."""
    stuck = {node for node, edge in edges.items() if edge.holders and not edge.is_open}
    waiters: dict[Node, list[Node]] = {}
    for node in stuck:
        for holder in edges[node].holders:
            waiters.setdefault(holder, []).append(node)

    left = {node: sum(holder in stuck for holder in edges[node].holders) for node in stuck}

    def may_go_on(node: Node) -> bool:
        edge = edges[node]
        return left[node] < len(edge.holders) if edge.needs == "any" else not left[node]

    work = [node for node in stuck if may_go_on(node)]
    while work:
        gone = work.pop()
        if gone not in stuck:
            continue
        stuck.remove(gone)
        for node in waiters.get(gone, ()):
            left[node] -= 1  # all are counted, not looked through again: there may be thousands
            if node in stuck and may_go_on(node):
                work.append(node)
    return frozenset(stuck)


def waits_in_order(graph: Graph) -> Iterator[Edge]:
    """Yield the edges: those of the test's chain first, then the deadlocked, then the others."""
    start = graph.start()
    first = [edge.waiter for edge in graph.chain(start)[0]] if start is not None else []
    order = dict.fromkeys([*first, *sorted(graph.deadlocked), *graph.edges])
    for node in order:
        edge = graph.edges.get(node)
        if edge is not None:
            yield edge
