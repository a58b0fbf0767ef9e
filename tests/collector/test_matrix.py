"""Every core_pattern, user and method: an archive that opens, or the documented refusal."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gencore_archives import find_left, read_manifest
from kernel import core_pattern, read_setting
from process_state import processes_in
from subjects import open_archived_core, python_for_everybody, run_subject

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.kernel_settings,
    pytest.mark.skipif(os.geteuid() != 0, reason="core_pattern is root's"),
]

METHODS = ("auto", "kernel", "memory")
THREADS = "3"
NO_LIMIT = "the hard limit of the core size is 0 (ulimit -Hc)"

SUBJECT = """
import os, resource, sys
from subjects import Captures, blocked_threads, give_up_privileges, report
directory, user, limit, methods, threads = sys.argv[1:]
hard = resource.getrlimit(resource.RLIMIT_CORE)[1] if limit == "any" else int(limit)
resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
if user == "nobody":
    give_up_privileges()
captures = Captures(directory)
with blocked_threads(int(threads)) as tids:
    for method in methods.split(","):
        captures.take(method=method)
report(outcomes=captures.finish(), tids=[os.getpid(), *tids], pid=os.getpid())
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that every user may use; short, because a pattern has at most 127 characters."""

    root: Path

    @property
    def marker(self) -> Path:
        """What the pipe's program would make."""
        return self.root / "touched"

    @property
    def cores(self) -> Path:
        """The directory of the absolute pattern."""
        return self.root / "cores"


@pytest.fixture
def place() -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix="gc-"))
    try:
        root.chmod(0o777)
        place = Place(root)
        place.cores.mkdir()
        place.cores.chmod(0o1777)
        program = root / "pipe"
        program.write_text(f"#!/bin/sh\ntouch {place.marker}\ncat >/dev/null\n")
        program.chmod(0o755)
        yield place
    finally:
        shutil.rmtree(root)


@dataclass(frozen=True, slots=True)
class Cell:
    """What a pattern means for method ``kernel``; the other works with any."""

    pattern: str
    limit: str = "any"
    obstacle: str = ""
    """Why no core is written; empty if one is."""


CELLS = {
    "plain": Cell("core"),
    "template": Cell("core.%e.%p.%t"),
    "subdirectory": Cell("cores/%e/core.%p"),
    "absolute": Cell("{root}/cores/core.%p"),
    "pipe": Cell("|{root}/pipe %p", obstacle="core_pattern sends cores to a program: |{root}/pipe %p"),
    "hard limit 0": Cell("core", limit="0", obstacle=NO_LIMIT),
    "no such directory": Cell(
        "{root}/none/core.%p",
        obstacle="core_pattern's directory {root}/none cannot be written: No such file or directory",
    ),
}


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("name", CELLS)
def test_cell(place: Place, name: str, user: str) -> None:
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    cell = CELLS[name]
    before = read_setting("kernel/core_pattern")
    obstacle = cell.obstacle.format(root=place.root)

    with core_pattern(cell.pattern.format(root=place.root)):
        answer = run_subject(
            SUBJECT, place.root / "out", user, cell.limit, ",".join(METHODS), THREADS, python=python
        )

    assert read_setting("kernel/core_pattern") == before
    assert not place.marker.exists(), "nothing was sent to the program"
    outcomes = dict(zip(METHODS, answer["outcomes"], strict=True))
    assert_archive(outcomes["auto"], answer, "memory", "the default")
    assert_archive(outcomes["memory"], answer, "memory", "asked for")
    if obstacle:
        assert_refused(outcomes["kernel"], f"method kernel cannot work here: {obstacle}")
    else:
        assert_archive(outcomes["kernel"], answer, "kernel", "asked for")
    archives = {Path(outcome["archive"]) for outcome in answer["outcomes"] if outcome["state"] == "done"}
    assert set(find_left(place.root / "out")) == archives, "nothing else is left"
    assert not list(place.cores.iterdir()), "the kernel's core is deleted"
    assert not processes_in(place.root)


def test_a_directory_of_somebody_else(place: Place) -> None:
    """The kernel would write the core with the rights of the process, that is not at all."""
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    place.cores.chmod(0o755)

    with core_pattern(f"{place.cores}/core.%p"):
        answer = run_subject(SUBJECT, place.root / "out", "nobody", "any", "kernel", THREADS, python=python)

    reason = f"core_pattern's directory {place.cores} cannot be written: Permission denied"
    assert_refused(answer["outcomes"][0], f"method kernel cannot work here: {reason}")


def test_a_core_that_does_not_appear(place: Place) -> None:
    """Nothing forbids it, but its name is a folder's."""
    (place.cores / "taken").mkdir()

    with core_pattern(f"{place.cores}/taken"):
        answer = run_subject(SUBJECT, place.root / "out", "root", "any", "kernel", THREADS)

    reason = f"the kernel wrote no core; core_pattern is '{place.cores}/taken'"
    assert_refused(answer["outcomes"][0], reason)
    assert find_left(place.root / "out") == []


def assert_refused(outcome: dict[str, Any], reason: str) -> None:
    assert (outcome["state"], outcome["reason"]) == ("failed", f"{reason} (use --gencore-method=memory)")
    assert not Path(outcome["archive"]).exists()


def assert_archive(outcome: dict[str, Any], answer: dict[str, Any], method: str, reason: str) -> None:
    assert (outcome["state"], outcome["reason"], outcome["method"]) == ("done", "", method)
    archive = Path(outcome["archive"])
    assert archive.stat().st_mode & 0o777 == 0o600
    manifest = read_manifest(archive)
    assert (manifest["method"], manifest["method_reason"]) == (method, reason)
    assert manifest["pid"] == answer["pid"]
    assert not manifest["core"]["truncated"]
    assert {thread["tid"] for thread in manifest["threads"]} == set(answer["tids"])
    assert all(thread["native_registers"] for thread in manifest["threads"])
    core, _ = open_archived_core(archive)
    assert core.threads()[0].tid == answer["pid"], "the capturing thread is first"
    assert sorted(thread.tid for thread in core.threads()) == sorted(answer["tids"])
    assert core.mapped_files()
