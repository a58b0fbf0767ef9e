"""Threads and tasks that wait for each other at random: every edge is named, and none that is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from counts import count

from pytest_gencore.collector.diagnosis.graph import Graph, Node, build_graph
from pytest_gencore.collector.diagnosis.parse import parse_facts

if TYPE_CHECKING:
    from pytest_gencore.collector.diagnosis.facts import Facts

PROGRAM = Path(__file__).parent / "programs" / "random_graph.py"
SEED = int(os.environ.get("GENCORE_SEED", "1"))
BATCHES = count(4, thorough=10)
GRAPHS_IN_BATCH = 10


ReadEdge: TypeAlias = "tuple[str, str, str | None, tuple[str, ...]]"
"""Waiter, kind, name of the resource, holders."""


def name_of(facts: Facts, node: Node) -> str:
    named = facts.threads.get(node.id) if node.kind == "thread" else facts.tasks.get(node.id)
    assert named is not None
    return named.name or "?"


def edges_of(graph: Graph) -> set[ReadEdge]:
    """Return the edges of the program's own threads and tasks."""
    facts = graph.facts
    found = set()
    for edge in graph.edges.values():
        waiter = name_of(facts, edge.waiter)
        if not waiter.startswith(("thread-", "task-")):
            continue
        name = facts.names.get(edge.wait.resource or 0)
        holders = tuple(sorted(name_of(facts, holder) for holder in edge.holders))
        has_name = edge.wait.kind in ("lock", "event", "queue")
        found.add((waiter, edge.wait.kind, name.text if name and has_name else None, holders))
    return found


def find_stuck(edges: set[ReadEdge]) -> set[str]:
    """Return who cannot go on: whoever waits, directly or not, for a circle."""
    waits = {waiter: set(holders) for waiter, _, _, holders in edges if holders}

    def reaches(start: str, goal: str) -> bool:
        seen: set[str] = set()
        work = list(waits.get(start, ()))
        while work:
            node = work.pop()
            if node == goal:
                return True
            if node not in seen:
                seen.add(node)
                work += waits.get(node, ())
        return False

    in_circle = {node for node in waits if reaches(node, node)}
    return {node for node in waits if node in in_circle or any(reaches(node, goal) for goal in in_circle)}


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_edge_and_no_other(batch: int) -> None:
    for number in range(GRAPHS_IN_BATCH):
        seed = 1000 * SEED + GRAPHS_IN_BATCH * batch + number
        done = subprocess.run(
            [sys.executable, PROGRAM, str(seed)], capture_output=True, timeout=60, check=True
        )
        expected: set[ReadEdge] = {
            (waiter, kind, name, tuple(sorted(holders)))
            for waiter, kind, name, holders in json.loads(done.stdout)
        }
        facts = parse_facts(done.stderr)
        graph = build_graph(facts)
        assert facts.problems == 0, f"seed {seed}: {done.stderr.decode()}"
        assert edges_of(graph) == expected, f"seed {seed}"
        stuck = {name_of(facts, node) for node in graph.deadlocked}
        own = {name for name in stuck if name.startswith(("thread-", "task-"))}
        assert own == find_stuck(expected), f"seed {seed}"
