"""Verdicts of made facts: what is said, and what is not."""

from __future__ import annotations

import json
from typing import Any

from pytest_gencore.collector.diagnosis.graph import build_graph
from pytest_gencore.collector.diagnosis.parse import parse_facts
from pytest_gencore.collector.diagnosis.report import make_lines, to_json
from pytest_gencore.collector.diagnosis.verdict import Verdict, find_verdict
from pytest_gencore.collector.diagnosis.words import Words
from pytest_gencore.texts import NOWHERE, Folders

Fact = dict[str, Any]


def thread(number: int, name: str, wait: Fact | None, *, is_own: bool = False) -> Fact:
    place = [f"/project/test_{name}.py", number, f"run_{name}"]
    known = {"id": number, "native_id": 100 + number, "name": name, "is_own": is_own}
    return {"fact": "thread", **known, "place": place, "project": place, "wait": wait}


def lock(number: int, **more: Any) -> Fact:
    return {"kind": "lock", "id": number, "type": "Lock", "locked": True, **more}


def hold(number: int, holder: int) -> Fact:
    return {"fact": "hold", "resource": number, "thread": holder, "place": ["/project/a.py", 9, "f"]}


def named(number: int, name: str) -> Fact:
    return {"fact": "name", "id": number, "name": name, "kind": "global", "of": "test_a"}


def judge(*facts: Fact, is_hang: bool = True, busy: float | None = None) -> Verdict | None:
    graph = build_graph(parse_facts("\n".join(map(json.dumps, facts)).encode()))
    words = Words(graph, Folders("/project"))
    verdict = find_verdict(graph, words, is_hang=is_hang, busy=busy)
    json.dumps(to_json(graph, words, verdict, make_lines(graph, words, 20)))
    return verdict


def text_of(*facts: Fact, is_hang: bool = True) -> str | None:
    verdict = judge(*facts, is_hang=is_hang)
    return None if verdict is None else verdict.text


BOTH_STUCK = (
    thread(2, "a", lock(11)),
    thread(3, "b", lock(10)),
    hold(10, 2),
    hold(11, 3),
    named(10, "left"),
    named(11, "right"),
)
CIRCLE = "a waits for lock 'right' held by b (a.py:9), which waits for lock 'left' held by a (a.py:9)"


def test_nothing_is_known() -> None:
    assert judge() is None
    assert judge(thread(1, "main", None, is_own=True)) is None
    assert judge(thread(1, "main", {"kind": "call", "call": "recv"}, is_own=True)) is None


def test_deadlock_beside_a_failing_test() -> None:
    main = thread(1, "main", None, is_own=True)
    assert text_of(main, *BOTH_STUCK, is_hang=False) == f"deadlock: {CIRCLE}, beside the test"


def test_no_other_verdict_of_a_failing_test() -> None:
    main = thread(1, "main", {"kind": "event", "id": 5, "is_set": False}, is_own=True)
    assert judge(main, is_hang=False) is None
    assert text_of(main) == "waits for an event, not set"


def test_own_wait_and_a_deadlock_beside_it() -> None:
    main = thread(1, "main", {"kind": "event", "id": 5, "is_set": False}, is_own=True)
    assert text_of(main, *BOTH_STUCK) == (f"waits for an event, not set; deadlock: {CIRCLE}, beside the test")


def test_the_test_runs_into_a_deadlock() -> None:
    main = thread(1, "main", {"kind": "thread", "thread": 2, "name": "a"}, is_own=True)
    assert text_of(main, *BOTH_STUCK) == (
        "deadlock: main waits for the end of thread 'a' (test_a.py:2), which waits for lock 'right' "
        "held by b (a.py:9), which waits for lock 'left' held by a (a.py:9)"
    )


def test_timeout_in_a_circle() -> None:
    facts = (
        thread(1, "main", lock(11, timeout=5.0), is_own=True),
        thread(2, "a", lock(10)),
        hold(10, 1),
        hold(11, 2),
    )
    assert text_of(*facts) == (
        "deadlock: main waits at most 5 s for a lock held by a (a.py:9), which waits for a lock "
        "held by main (a.py:9) (at least one of these waits has a timeout)"
    )


def test_the_gil_was_held() -> None:
    main = thread(1, "main", {"kind": "event", "id": 5, "is_set": False}, is_own=True)
    gil = {"fact": "gil", "held_by": "other"}
    assert text_of(gil, main) == "waits for an event, not set (as far as known: another thread held the GIL)"


def test_a_lock_that_is_free_by_now() -> None:
    main = thread(1, "main", {"kind": "lock", "id": 10, "locked": False}, is_own=True)
    assert text_of(main, thread(2, "a", None), hold(10, 2)) == "waits for a lock"


def test_any_of_several_of_which_one_is_not_known() -> None:
    """A pool's worker is stuck, but another future may come first."""
    main = thread(1, "main", {"kind": "futures", "futures": [20, 21]}, is_own=True)
    stuck = {"fact": "completes", "resource": 20, "thread": 2}
    text = text_of(main, stuck, *BOTH_STUCK)
    assert text == (
        "waits for 2 futures (test_a.py:2), which waits for lock 'right' held by b (a.py:9), "
        f"which waits for lock 'left' held by a (a.py:9); deadlock: {CIRCLE}, beside the test"
    )


def test_names_cannot_forge_lines() -> None:
    main = thread(1, "main", lock(10), is_own=True)
    evil = thread(2, "x\n\x1b[31mPASSED", None)
    text = text_of(main, evil, hold(10, 2), named(10, "a\nb"))
    assert text is not None
    assert text.isprintable()
    graph = build_graph(parse_facts("\n".join(map(json.dumps, (main, evil, hold(10, 2)))).encode()))
    assert all(line.isprintable() for line in make_lines(graph, Words(graph, NOWHERE), 20))


def test_busy_needs_the_kernel() -> None:
    """Without the system calls nobody knows whether a thread runs."""
    assert judge(thread(1, "main", None, is_own=True), busy=0.9) is None


def test_nobody_holds_a_lock_only_if_everything_was_read() -> None:
    main = thread(1, "main", lock(10), is_own=True)
    nobody = "waits for a lock, which no `with` of a thread or task holds: who has it is not known"
    not_known = "waits for a lock whose holder is not known"
    assert text_of(main, {"fact": "end"}) == nobody
    assert text_of(main) == not_known
    assert text_of(main, {"fact": "cut", "what": "time"}, {"fact": "end"}) == not_known
