"""What archives cost: each type, looking for 20 secret values, sealing; all in turn, in one run.

::

    python tests/benchmarks/archives.py [MIB [ROUNDS]]

Shown are size and time of each type, of this process as it is: that is the fixed cost of a capture, from the
call until the archive has its name. Then, with so many MiB of Python's own code and data more, how many times
longer collectors work if they look for secrets, and if they seal.
"""

from __future__ import annotations

import os
import random
import string
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from pytest_gencore.age import load_pyrage
from pytest_gencore.archive import read_archive
from pytest_gencore.capture import CaptureEngine, CaptureRequest, new_run_id
from pytest_gencore.contents import DUMP_TYPES
from pytest_gencore.request.context import BY_NAMES, Protection
from pytest_gencore.run.run import Run

MIB = 1 << 20
KIB = 1 << 10
LENGTHS = (8, 10, 12, 16, 20, 24, 32, 36, 40, 64)
"""Characters of the values, two of each."""
PLAIN = Protection(redaction=None)


class Cost(NamedTuple):
    """Of one archive."""

    wall_s: float
    collector_s: float
    size: int


def make_values() -> list[str]:
    """Return the values, two of them not in ASCII."""
    source = random.Random(42)
    values = ["".join(source.choices(string.ascii_letters + string.digits, k=n)) for n in LENGTHS * 2]
    return ["pässwörd-" + values[0], "пароль-" + values[1], *values[2:]]


def make_memory(size: int) -> bytearray:
    """Return so many bytes as a process has: what Python has compiled, over and over."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.pyc"))
    data = b"".join(path.read_bytes() for path in files[:2000])
    return bytearray(data * (size // len(data) + 1))[:size]


def collect(protection: Protection, request: CaptureRequest) -> Cost:
    """Make an archive of this process."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        directory, run_id = Path(folder), new_run_id()
        engine, run = CaptureEngine(directory, run_id, protection=protection), Run(directory, run_id)
        started = time.perf_counter()
        capture = engine.capture(request)
        run.wait()
        wall = time.perf_counter() - started
        archive = read_archive(capture.archive)
        run.close()
        return Cost(wall, archive.manifest.timings.collect_s or 0.0, archive.size)


def measure_types(rounds: int) -> None:
    """Print medians for each type."""
    requests = [CaptureRequest(trigger="request", type=name) for name in DUMP_TYPES]
    costs = [[collect(PLAIN, request) for request in requests] for _ in range(rounds)]
    for name, measured in zip(DUMP_TYPES, zip(*costs, strict=True), strict=True):
        wall = median(cost.wall_s for cost in measured)
        print(f"type {name:5} {measured[0].size / KIB:10,.0f} KiB  {wall:.2f} s", flush=True)


def measure_protection(size: int, rounds: int, sealed: Protection) -> None:
    """Print medians of how long collectors worked, and of the quotients."""
    held = make_memory(size * MIB)
    request = CaptureRequest(trigger="request", core_filter=0x33)
    ways = {"plain": PLAIN, "redacted": Protection(redaction=BY_NAMES), "sealed": sealed}
    costs = [
        {name: collect(protection, request).collector_s for name, protection in ways.items()}
        for _ in range(rounds)
    ]
    for name in ways:
        seconds = median(cost[name] for cost in costs)
        quotient = median(cost[name] / cost["plain"] for cost in costs)
        print(f"{size} MiB {name:8} {seconds:.2f} s  {quotient:.2f} x plain", flush=True)
    del held


def main() -> None:
    """Run everything."""
    size, rounds = (int(text) for text in (*sys.argv[1:], *("1024", "5")[len(sys.argv) - 1 :]))
    for number, value in enumerate(make_values()):
        os.environ[f"BENCHMARK_{number}_TOKEN"] = value
    recipient = str(load_pyrage().x25519.Identity.generate().to_public())
    measure_types(rounds)
    measure_protection(size, rounds, Protection(redaction=None, recipients=(recipient,)))


if __name__ == "__main__":
    main()
