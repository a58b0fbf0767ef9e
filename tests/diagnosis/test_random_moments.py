"""Captures at random moments of busy code, whoever holds the GIL: the probe answers whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from counts import count
from subjects import run_subject

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).parent / "programs" / "random_moments.py"
SEED = os.environ.get("GENCORE_SEED", "1")
CAPTURES = count(4, thorough=8)
KINDS = (
    "spin",
    "encode",
    "allocate",
    "collect",
    "recurse",
    "compress",
    "compute",
    "throw",
    "generate",
    "change_dicts",
    "make_threads",
)


def answers_of(directory: Path, kind: str, captures: int, beside: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the facts of each capture."""
    script = f"exec(compile(open({str(PROGRAM)!r}).read(), {str(PROGRAM)!r}, 'exec'))"
    answer = run_subject(script, directory, kind, str(captures), str(beside), SEED, timeout=300)
    for said, _ in answer["answers"]:
        yield [json.loads(line) for line in said.splitlines()]


@pytest.mark.slow(rows=2)
@pytest.mark.parametrize("beside", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_busy(kind: str, beside: int, tmp_path: Path) -> None:
    answers = list(answers_of(tmp_path, kind, CAPTURES, beside))
    whole = [facts for facts in answers if facts[-1] == {"fact": "end"}]
    # A loaded machine may not get to the end in time; and there may be moments that nobody has met yet.
    assert 10 * len(whole) >= 9 * len(answers) - 10, [facts[-1] for facts in answers]
    for facts in whole:
        own = next(fact for fact in facts if fact["fact"] == "thread" and fact["is_own"])
        assert own["name"] == "MainThread"


def test_in_the_middle_of_a_change_of_the_list_of_objects(tmp_path: Path) -> None:
    """Nobody will finish it: without a mended list, the first object that the probe makes ends it."""
    for facts in answers_of(tmp_path, "change_the_list", 4, 0):
        assert facts[0] == {"fact": "gil", "held_by": "own"}
        assert facts[-1] == {"fact": "end"}, facts[-3:]


def test_while_the_list_of_threads_is_locked(tmp_path: Path) -> None:
    """A thread is being started or ended: the probe would wait for the lock as long as it may."""
    for facts in answers_of(tmp_path, "lock_the_threads", 4, 0):
        assert facts[-1] == {"fact": "end"}, facts[-1]
