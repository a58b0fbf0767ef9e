"""How long a hang with many threads and tasks takes from its capture to the answer on standard error.

::

    python tests/benchmarks/answer.py

Each is a run of pytest of its own that ends at its deadline. Shown are the median, the longest, how many
lines the answer has, and how many of the runs had a diagnosis of everything.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROUNDS = 5
OPTIONS = ("--gencore-on-fail", "--gencore-timeout=2", "-o", "gencore_exit_on_timeout=true")
SUITE = """
import asyncio, threading

queue, locks = asyncio.Queue(), [threading.Lock() for _ in range(50)]

async def take():
    await queue.get()

async def take_own():
    await asyncio.Event().wait()

async def serve(tasks):
    await asyncio.gather(*[take() for _ in range(tasks)])

async def serve_own(tasks):
    await asyncio.gather(*[take_own() for _ in range(tasks)])

def work(number, barrier):
    with locks[number]:
        barrier.wait()
        with locks[(number + 1) % len(locks)]:
            pass

def test_10_000_equal_tasks():
    asyncio.run(serve(10_000))

def test_10_000_different_tasks():
    asyncio.run(serve_own(10_000))

def test_50_threads_and_1_000_tasks():
    barrier = threading.Barrier(len(locks))
    for number in range(len(locks)):
        threading.Thread(target=work, args=(number, barrier), daemon=True).start()
    asyncio.run(serve(1_000))
"""
TESTS = ("test_10_000_equal_tasks", "test_10_000_different_tasks", "test_50_threads_and_1_000_tasks")


class Answer(NamedTuple):
    """What one run told."""

    seconds: float
    lines: int
    is_complete: bool


def main() -> None:
    """Measure and print."""
    for test in TESTS:
        answers = [run(test) for _ in range(ROUNDS)]
        seconds = [answer.seconds for answer in answers]
        complete = sum(answer.is_complete for answer in answers)
        print(
            f"{test}: median {median(seconds):.2f} s, at most {max(seconds):.2f} s, "
            f"{max(answer.lines for answer in answers)} lines, {complete} of {ROUNDS} complete"
        )


def run(test: str) -> Answer:
    """Return when the verdict was read from standard error."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_suite.py").write_text(SUITE)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "gencore", *OPTIONS, f"test_suite.py::{test}"]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        told, lines = 0.0, 0
        for line in process.stderr:
            if line.startswith(("gencore: asyncio: ", "gencore: deadlock: ")):
                told = time.time()
            if line.startswith("gencore: core archive under way"):
                break
            lines += bool(told)
        process.communicate(timeout=120)
        (archive,) = (folder / "gencore-artifacts").glob("*.tar.gz")
        with gzip.open(archive) as file, tarfile.open(fileobj=file) as tar:
            member = next(member for member in tar if member.name.endswith("/gencore.json"))
            contents = tar.extractfile(member)
            assert contents is not None
            manifest = json.load(contents)
    captured = datetime.fromisoformat(manifest["created"]).timestamp()
    return Answer(told - captured, lines, manifest["diagnosis"]["complete"])


if __name__ == "__main__":
    main()
