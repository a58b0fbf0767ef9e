"""Who has the other end of a pipe: processes of the moment of the capture, and no copy that captures take."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.collector.diagnosis.system.holders import Family, scan
from pytest_gencore.machine.process import start_ticks
from pytest_gencore.request.context import COLLECTOR_MODULE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., int]

HOLDS = "import os, sys; os.write(1, b'%d\\n' % os.getpid()); sys.stdin.read()"
FORKS = (
    "import os, sys\n"
    "if pid := os.fork(): os.close(int(sys.argv[1])); os.write(1, b'%d\\n' % pid)\n"
    "sys.stdin.read()"
)


@pytest.fixture
def pipe() -> Iterator[int]:
    """Return the writing end of a pipe."""
    reads, writes = os.pipe()
    yield writes
    os.close(reads)
    os.close(writes)


@pytest.fixture
def start(pipe: int) -> Iterator[Start]:
    """Start a program that has the pipe; return the id that it writes."""
    with contextlib.ExitStack() as stack:

        def start(program: str) -> int:
            process = subprocess.Popen(
                [sys.executable, "-c", program, str(pipe)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[pipe],
            )
            stack.callback(process.communicate)
            assert process.stdout is not None
            return int(process.stdout.readline())

        yield start


def find_holders(pipe: int, newest: int | None) -> set[int]:
    link = str(Path(f"/proc/self/fd/{pipe}").readlink())
    family = Family(os.getpid(), children=frozenset(), skipped=frozenset(), birth=0, newest=newest)
    found = scan({link: os.fstat(pipe).st_ino}, family).other_end(link, reads=False, own=())
    return {holder.pid for holder in found.holders}


def test_who_began_after_the_snapshot_was_not_there(pipe: int, start: Start) -> None:
    before = start(HOLDS)
    newest = start_ticks(before)
    while start_ticks(after := start(HOLDS)) <= newest:
        pass

    assert find_holders(pipe, newest) == {before}
    assert {before, after} <= find_holders(pipe, None)


@pytest.mark.parametrize("comment", ["", f"  # {COLLECTOR_MODULE}"])
def test_copies_in_the_hands_of_collectors_do_not_count(pipe: int, start: Start, comment: str) -> None:
    child = start(FORKS + comment)

    assert find_holders(pipe, None) == (set() if comment else {child})
