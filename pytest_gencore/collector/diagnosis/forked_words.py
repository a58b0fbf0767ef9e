"""What children by fork wait for, in words: a lock may be held by a thread that only their parent has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.collector.diagnosis.graph import Node, build_graph, one_each
from pytest_gencore.collector.diagnosis.parse import parse_facts
from pytest_gencore.collector.diagnosis.verdict import tell_waits
from pytest_gencore.collector.diagnosis.words import Words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_gencore.collector.diagnosis.answers import Answer
    from pytest_gencore.collector.diagnosis.graph import Edge, Graph
    from pytest_gencore.texts import Folders

_ADVICE: Final = "the classical deadlock after fork (use spawn or forkserver, or fork before threads start)"
_NOT_IN_CHILD: Final = "which no `with` of the child holds"


class ForkedWords(Words):
    """Says what the nodes and edges of the graph of one child are."""

    def __init__(self, graph: Graph, folders: Folders, parent: Words) -> None:
        """``parent``: of the captured process."""
        super().__init__(graph, folders)
        self._parent = parent
        self.forked = parent.forked
        self.idle = parent.idle

    def holder(self, edge: Edge) -> str:
        """Return who has a lock; also if it was taken by a thread that was not copied."""
        if edge.wait.kind != "lock" or edge.wait.details.get("locked") is False:
            return super().holder(edge)
        known = [node for node in edge.holders if self.graph.thread(node) or self.graph.task(node)]
        if known or not (edge.holders or self.facts.is_complete):
            return super().holder(edge)
        if edge.holders:
            thread = self._parent.graph.thread(edge.holders[0])
            if thread is None:
                return "held by a thread that the child does not have"
            name = self._parent.name(edge.holders[0])
            return f"held by {name}, a thread of the parent that was not copied: {_ADVICE}"
        who = self._held_in_parent(edge)
        if who:
            return f"{_NOT_IN_CHILD}; in the parent it is {who}: probably {_ADVICE}"
        return f"{_NOT_IN_CHILD}: probably it was locked at the fork, {_ADVICE}"

    def _held_in_parent(self, edge: Edge) -> str:
        """Return who has the lock at the same address there."""
        holds = one_each(self._parent.facts.holds.get(edge.wait.resource or 0, []))
        return " and ".join(
            self._parent.held_by(Node("task" if hold.is_task else "thread", hold.holder), hold)
            for hold in holds
        )


class ForkedChild(NamedTuple):
    """What one child says of itself."""

    pid: int
    graph: Graph
    words: Words


def read_forked(answers: Mapping[int, Answer], folders: Folders, parent: Words) -> list[ForkedChild]:
    """Return the children that have answered, and let the words of the captured process tell them.

    ``answers``: by process, children before theirs.
    """
    found: list[ForkedChild] = []
    for pid, answer in reversed(list(answers.items())):
        facts = parse_facts(answer.facts)
        if facts.own is not None:
            graph = build_graph(facts)
            words = ForkedWords(graph, folders, parent)
            parent.forked[pid] = tell_waits(graph, words)
            if facts.own.place is not None and "/multiprocessing/" in facts.own.place.file:
                parent.idle.add(pid)
            found.insert(0, ForkedChild(pid, graph, words))
    return found
