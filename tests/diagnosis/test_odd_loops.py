"""Loops and tasks as few people have them: they are told, and none of their code is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.collector.diagnosis.graph import build_graph
from pytest_gencore.collector.diagnosis.parse import parse_facts
from pytest_gencore.collector.diagnosis.report import LOG_LINES, make_lines
from pytest_gencore.collector.diagnosis.words import Words
from pytest_gencore.texts import NOWHERE

if TYPE_CHECKING:
    from pytest_gencore.collector.diagnosis.facts import Facts

PROGRAM = Path(__file__).parent / "programs" / "many_tasks.py"


TRIES = 5


def facts_of(kind: str) -> Facts:
    return run(kind)[0]


def run(kind: str) -> tuple[Facts, str]:
    """Return what the probe said of a program, and what the program printed."""
    done = subprocess.run([sys.executable, PROGRAM, kind], capture_output=True, timeout=60, check=True)
    facts = parse_facts(done.stderr)
    assert facts.problems == 0, done.stderr.decode()
    return facts, done.stdout.decode()


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("hostile", "hostile"),
        ("subclass", "inside"),
        ("other_thread", "elsewhere"),
        ("closed", "left"),
        pytest.param(
            "eager", "eager", marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
        ),
        pytest.param(
            "cancelled_group",
            "stubborn",
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="new in 3.11"),
        ),
    ],
)
def test_the_task_is_told(kind: str, task: str) -> None:
    facts = facts_of(kind)
    found = [one for one in facts.tasks.values() if one.name == task]
    assert len(found) == 1, facts.tasks
    wait = found[0].wait
    if kind == "closed":
        assert wait is None, "it has never run"
    else:
        assert wait is not None
        assert wait.kind == "event"


def test_ten_thousand_tasks() -> None:
    """A loaded machine may not get to the end in the time that the probe has: then it is asked again."""
    answers = (run("many") for _ in range(TRIES))
    facts, counted = next(answer for answer in answers if not answer[0].cuts)
    graph = build_graph(facts)
    lines = make_lines(graph, Words(graph, NOWHERE), LOG_LINES)
    assert len(lines) <= LOG_LINES
    assert sum(1 + task.alike for task in facts.tasks.values()) == 10_001
    assert [name.text for name in facts.names.values()] == ["event"]
    assert int(counted) <= 200, "one pass compares each reference on the heap with so many things"


def test_nested_loops() -> None:
    """A loop runs inside of a task of itself, and inside of that another loop."""
    facts = facts_of("nested")

    waits = {task.name: task.wait.kind if task.wait else None for task in facts.tasks.values()}
    assert waits == {"Task-1": None, "inner": None, "beside": "event", "deepest": "event"}
    assert {task.name for task in facts.tasks.values() if task.is_current} == {"Task-1", "inner"}
    assert {facts.tasks[loop.main or 0].name for loop in facts.loops.values()} == {"inner", "deepest"}
    own = facts.own
    assert own is not None
    assert {loop.thread for loop in facts.loops.values()} == {own.id}
