"""What looking for secrets costs: archives of this process with 20 values and without any, in turn.

::

    python tests/benchmarks/redaction.py [MIB [ROUNDS]]

Shown is how long collectors worked, and the quotients: of a process with so many MiB of Python's own code and
data, and of one with nothing.
"""

from __future__ import annotations

import os
import random
import string
import sys
import sysconfig
import tempfile
from pathlib import Path
from statistics import median

from pytest_gencore.archive import read_archive
from pytest_gencore.capture import CaptureEngine, CaptureRequest, new_run_id
from pytest_gencore.request.context import BY_NAMES, Protection, Redaction
from pytest_gencore.run.run import Run

MIB = 1 << 20
LENGTHS = (8, 10, 12, 16, 20, 24, 32, 36, 40, 64)
"""Characters of the values, two of each."""


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


def collect(redaction: Redaction | None) -> float:
    """Return the seconds that a collector worked."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        directory, run_id = Path(folder), new_run_id()
        engine = CaptureEngine(directory, run_id, protection=Protection(redaction=redaction))
        capture = engine.capture(CaptureRequest(trigger="request", core_filter=0x33))
        Run(directory, run_id).wait_for(capture.name)
        return read_archive(capture.archive).manifest.timings.collect_s or 0.0


def measure(name: str, rounds: int) -> None:
    """Print medians of both, and of their quotients."""
    pairs = [(collect(None), collect(BY_NAMES)) for _ in range(rounds)]
    without, searched = (median(times) for times in zip(*pairs, strict=True))
    ratio = median(b / a for a, b in pairs)
    print(f"{name:10}  without {without:.2f} s  with {searched:.2f} s  quotient {ratio:.2f}", flush=True)


def main() -> None:
    """Run everything."""
    size, rounds = (int(text) for text in (*sys.argv[1:], *("1024", "5")[len(sys.argv) - 1 :]))
    for number, value in enumerate(make_values()):
        os.environ[f"BENCHMARK_{number}_TOKEN"] = value
    measure("nothing", rounds)
    held = make_memory(size * MIB)
    measure(f"{size} MiB", rounds)
    del held


if __name__ == "__main__":
    main()
