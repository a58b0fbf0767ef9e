"""The probe reads objects whose words were overwritten: it says less, and nothing that is not so."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from counts import count
from gencore_archives import read_manifest, read_member
from projects import EXITS, QUICK, Project

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).parent / "programs" / "mutated_memory.py"
SEED = int(os.environ.get("GENCORE_SEED", "1"))
BATCHES = count(4, thorough=8)
SEEDS_IN_BATCH = 10
LIMIT_SECONDS = 4 + 4 + 1.5 + 20
"""For faulthandler's text, twice; for the probe; for the archive, on a loaded machine."""
GROUPS = ("t0", "t1", "t2", "a0", "a1")
THREADS = {
    "pay": ("lock", "second", "refund"),
    "refund": ("lock", "first", "pay"),
    "keep": ("event", "over", None),
    "want": ("lock", "third", "keep"),
    "get": ("queue", "orders", None),
    "watch": ("condition", "changed", None),
    "end": ("thread", None, "get"),
}
TASKS = {
    "loop": ("loop", None, None),
    "keep": ("queue", "orders", None),
    "want": ("lock", "lock", "keep"),
    "follow": ("task", None, "want"),
    "both": ("gather", None, "keep,want"),
    "hope": ("event", "over", None),
}
"""What waits for which kind of thing, its name, and who has it; in each group of threads, and of tasks."""


class Found(NamedTuple):
    """An edge of ``diagnosis.json``."""

    waiter: str
    kind: str
    name: str | None
    holders: frozenset[str]


def expected_edges() -> dict[str, Found]:
    """Return the edges of all groups, by waiter."""
    edges = {}
    for group in GROUPS:
        for who, (kind, name, holders) in (THREADS if group[0] == "t" else TASKS).items():
            names = [f"{group}-{holder}" for holder in holders.split(",")] if holders else []
            edges[f"{group}-{who}"] = Found(f"{group}-{who}", kind, name, frozenset(names))
    return edges


EXPECTED = expected_edges()


def edges_of(diagnosis: dict[str, Any]) -> Iterator[Found]:
    names = {("thread", thread["ident"]): thread["name"] for thread in diagnosis["threads"]}
    names |= {("task", task["id"]): task["name"] for task in diagnosis["tasks"]}
    for waiter in (*diagnosis["threads"], *diagnosis["tasks"]):
        wait = waiter["wait"]
        if wait is not None:
            holders = frozenset(str(names.get(tuple(holder))) for holder in wait["holders"])
            yield Found(str(waiter["name"]), wait["kind"], wait["name"], holders)


def judge(archive: Path, project: Project) -> bool:
    """Compare what an archive says with what is so; tell whether it tells the thread of the test."""
    manifest = read_manifest(archive)
    seed = int(manifest["nodeid"].partition("[")[2].rstrip("]"))
    mutated = json.loads((project.folder / f"{seed}.json").read_text())
    told = f"seed {seed}: {mutated['groups']}, {mutated['writes']}"
    assert not manifest["core"]["truncated"], told
    taken = archive.stat().st_mtime - datetime.fromisoformat(manifest["created"]).timestamp()
    assert taken < LIMIT_SECONDS, told
    stacks = read_member(archive, "stacks.txt").decode()
    assert "test_mutated" in stacks, told
    if not mutated["is_stack"]:  # else faulthandler may have gone no further
        assert all(f'{group}.py", line ' in stacks for group in GROUPS), told

    diagnosis = json.loads(read_member(archive, "diagnosis.json"))
    if not diagnosis["complete"]:  # what was not read cannot be said to be nowhere
        assert not [line for line in diagnosis["lines"] if "no task" in line or "no thread" in line], told
    own = [thread["name"] for thread in diagnosis["threads"] if thread["captured"]]
    assert own in (["MainThread"], []), told
    edges = [edge for edge in edges_of(diagnosis) if edge.waiter in EXPECTED]

    def is_whole(name: str) -> bool:
        return name.partition("-")[0] not in mutated["groups"]

    for edge in edges:
        if not is_whole(edge.waiter):
            continue
        wanted = EXPECTED[edge.waiter]
        assert edge.kind == wanted.kind, f"{told}: {edge}"
        assert edge.name in (None, wanted.name), f"{told}: {edge}"
        assert {name for name in edge.holders if is_whole(name)} <= wanted.holders, f"{told}: {edge}"
    if not mutated["writes"]:
        assert set(edges) == set(EXPECTED.values())
    return bool(own)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Return a project with the tests; nothing of its runs may be left."""
    project = Project(tmp_path)
    shutil.copy(PROGRAM, tmp_path / "test_mutated.py")
    yield project
    project.close()


def environment_of(first: int, seeds: int) -> dict[str, str]:
    return {"FIRST": str(first), "SEEDS": str(seeds)}


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_nothing_is_said_that_is_not_so(project: Project, batch: int) -> None:
    first = 10_000 * (SEED - 1) + SEEDS_IN_BATCH * batch
    started = time.monotonic()

    ended = project.run(
        *QUICK, "--gencore-timeout=0.5", environment=environment_of(first, SEEDS_IN_BATCH), timeout=240
    )

    assert ended.status == 0
    assert ended.counts() == {"passed": SEEDS_IN_BATCH}
    archives = project.find_archives()
    assert len(archives) == SEEDS_IN_BATCH
    assert time.monotonic() - started < SEEDS_IN_BATCH * LIMIT_SECONDS
    told = 0
    for archive in archives:
        told += judge(archive, project)
        archive.unlink()
    assert told >= SEEDS_IN_BATCH - 1, "its own objects are whole; but a loaded machine may have no time"


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("seed", [3, 5])
def test_a_process_that_ends(project: Project, seed: int) -> None:
    ended = project.run(*QUICK, *EXITS, "--gencore-timeout=0.5", environment=environment_of(seed, 1))

    assert ended.status == 1
    assert "the test took too long, the process ends: gencore_exit_on_timeout" in ended.err
    judge(project.only_archive(), project)
