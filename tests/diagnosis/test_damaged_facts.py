"""What a probe in damaged memory may say: the collector makes something of it, or nothing, in time."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from counts import count
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gencore.collector.diagnosis.diagnosis import Diagnosis
from pytest_gencore.collector.diagnosis.parse import parse_facts
from pytest_gencore.collector.diagnosis.system.facts import SystemFacts
from pytest_gencore.texts import Folders

FACTS = (
    "gil",
    "thread",
    "loop",
    "task",
    "same",
    "hold",
    "owner",
    "completes",
    "name",
    "problem",
    "cut",
    "end",
)
KINDS = [
    "lock",
    "process_lock",
    "semaphore",
    "event",
    "condition",
    "barrier",
    "queue",
    "thread",
    "task",
    "gather",
    "wait",
    "task_group",
    "future",
    "futures",
    "loop",
    "import",
    "sleep",
    "child",
    "stream",
    "call",
    "unknown",
    "native_lock",
    "loop_thread",
    "__init__",
    "\x1b[2J",
]
KEYS = [
    "id",
    "thread",
    "task",
    "future",
    "threads",
    "tasks",
    "futures",
    "resource",
    "owner",
    "count",
    "of",
    "kind",
    "name",
    "place",
    "project",
    "wait",
    "frames",
    "loop",
    "main",
    "is_own",
    "is_current",
    "is_main",
    "native_id",
    "source",
    "timeout",
    "locked",
    "value",
    "items",
    "operation",
    "unfinished",
    "is_set",
    "parties",
    "left",
    "seconds",
    "pid",
    "fd",
    "call",
    "type",
    "state",
    "due",
    "ready",
    "text",
    "held_by",
    "what",
    "coroutine",
    "framework",
    "module",
]
NUMBERS = st.one_of(st.integers(0, 6), st.integers(), st.floats(), st.just(10**400))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(KINDS), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=10,
)
WAITS = st.builds(
    lambda kind, number, more: {**more, "kind": kind, "id": number},
    st.sampled_from(KINDS),
    st.integers(0, 6),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5),
)
LINES = st.builds(
    lambda fact, number, wait, more: {"fact": fact, "id": number, "wait": wait, **more},
    st.sampled_from(FACTS),
    st.integers(0, 6),
    WAITS,
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8),
)

NOTHING = SystemFacts({}, {}, [], None, None, frozenset(), None)  # type: ignore[arg-type] # no memory is asked for


def conclude(data: bytes) -> dict[str, Any]:
    """Draw all conclusions; what they say can be printed, and is JSON."""
    diagnosis = Diagnosis(parse_facts(data), NOTHING, Folders("/project"), is_hang=True, busy=0.5)
    for line in (*diagnosis.verdict_lines, *diagnosis.log_lines(), *diagnosis.full_lines()):
        assert line.isprintable(), line
    assert len(diagnosis.log_lines()) <= 20

    def refuse(text: str) -> None:
        raise AssertionError(text)

    found: dict[str, Any] = json.loads(json.dumps(diagnosis.to_json()), parse_constant=refuse)
    return found


@settings(max_examples=count(60, thorough=150), deadline=None)
@given(st.lists(LINES, max_size=12))
def test_facts_of_any_content(facts: list[dict[str, Any]]) -> None:
    conclude(b"\n".join(json.dumps(fact).encode() for fact in facts))


@pytest.mark.slow
@settings(max_examples=count(60, thorough=150), deadline=None)
@given(st.lists(LINES, max_size=6), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=10))
def test_changed_bytes(facts: list[dict[str, Any]], changes: list[tuple[int, int]]) -> None:
    data = bytearray(b"\n".join(json.dumps(fact).encode() for fact in facts))
    for where, byte in changes:
        if data:
            data[where % len(data)] = byte
    conclude(bytes(data))


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("shape", ["chain", "circle", "star", "gather"])
def test_thousands_of_tasks(shape: str) -> None:
    """Each is waited for by another one, all for one, or one for all: still a matter of seconds."""
    size = 20_000 if shape == "gather" else 10_000

    def awaited(number: int) -> list[int]:
        if shape == "star":
            return [1]
        if shape == "gather" and number == 1:
            return list(range(2, size + 1))
        return [number % size + 1] if shape == "circle" or number < size else []

    lines = [
        {
            "fact": "task",
            "id": number,
            "name": f"t{number}",
            "wait": {"kind": "task", "tasks": awaited(number)},
        }
        for number in range(1, size + 1)
    ]
    started = time.process_time()
    found = conclude("\n".join(map(json.dumps, lines)).encode())
    assert time.process_time() - started < 5
    assert bool(found["deadlocked"]) is (shape in ("circle", "star"))
