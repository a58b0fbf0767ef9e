"""Compare ways to get a core archive of a live Python process, all in one run on one machine.

Run:  python tests/benchmarks/compare.py            (sizes 64, 256 and 1024 MiB)
      python tests/benchmarks/compare.py --help

Absolute times mean little on a shared machine: the last columns are ratios to our own method of the same row
group, measured in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

SUBJECT = Path(__file__).with_name("subject.py")
WAYS = ("bare fork", "copy", "crash", "fork+SIGSEGV+tar", "gcore+tar")
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement."""

    pause_s: float
    """Longest time that another thread of the process did not run."""
    call_s: float
    total_s: float
    """Until the archive was finished."""
    archive_bytes: int
    peak_disk_bytes: int
    peak_memory_bytes: int
    """Of the collector, or of gcore and tar."""
    cpu_s: float
    """Of the captured process."""


def measure(way: str, directory: Path, size: int, threads: int, memory: str) -> Sample:
    """Run the subject once; peaks are sampled every few milliseconds."""
    artifacts = directory / "artifacts"
    process = subprocess.Popen(
        [sys.executable, SUBJECT, way, artifacts, str(size), str(threads), memory],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if way.startswith("fork") else None,
        text=True,
    )
    disk = peak = 0
    while process.poll() is None:
        disk = max(disk, sum(usage_of(artifacts)))
        peak = max(peak, max(memory_of_helpers(process.pid, artifacts), default=0))
        time.sleep(0.01)
    assert process.stdout is not None
    line = process.stdout.read()
    if process.returncode or not line:
        message = f"{way} failed with status {process.returncode}"
        raise RuntimeError(message)
    result = json.loads(line)
    return Sample(
        pause_s=result["pause_s"],
        call_s=result["call_s"],
        total_s=result["total_s"],
        archive_bytes=result["archive_bytes"],
        peak_disk_bytes=disk,
        peak_memory_bytes=peak,
        cpu_s=result["cpu_s"],
    )


def usage_of(directory: Path) -> Iterator[int]:
    """Yield the allocated size of each file below."""
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                yield (Path(folder) / name).lstat().st_blocks * 512


def memory_of_helpers(pid: int, artifacts: Path) -> Iterator[int]:
    """Yield the peak memory of each collector, gcore and tar of the subject."""
    for state in artifacts.glob(".gencore-*/*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            yield peak_memory(json.loads(state.read_text())["pid"])
    with contextlib.suppress(OSError, psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            if Path(child.exe()).name != Path(os.path.realpath(sys.executable)).name:
                yield peak_memory(child.pid)


def peak_memory(pid: int) -> int:
    """Return the peak resident size: VmHWM of proc(5)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def median(samples: list[Sample], name: str) -> float:
    """Return the median of one field."""
    return float(statistics.median(getattr(sample, name) for sample in samples))


def span(samples: list[Sample], name: str, unit: float) -> str:
    """Return median (minimum to maximum)."""
    values = [getattr(sample, name) / unit for sample in samples]
    return f"{statistics.median(values):.4g} ({min(values):.4g}..{max(values):.4g})"


def show(title: str, results: dict[str, list[Sample]]) -> None:
    """Print the table of one group."""
    print(f"\n{title}")
    header = ("way", "pause ms", "archive after s", "archive MiB", "disk MiB", "memory MiB", "own CPU s")
    print(f"{header[0]:<18}" + "".join(f"{name:>26}" for name in header[1:]))
    for way, samples in results.items():
        cells = [span(samples, "pause_s", 1e-3)]
        if way != "bare fork":
            cells += [
                span(samples, "total_s", 1),
                span(samples, "archive_bytes", MIB),
                span(samples, "peak_disk_bytes", MIB),
                span(samples, "peak_memory_bytes", MIB),
                span(samples, "cpu_s", 1),
            ]
        print(f"{way:<18}" + "".join(f"{cell:>26}" for cell in cells))
    show_ratios(results)


def show_ratios(results: dict[str, list[Sample]]) -> None:
    """Print what the issue asks of each of our methods, as ratios of medians."""
    for ours in ("copy", "crash"):
        if ours not in results:
            continue
        parts = []
        if "bare fork" in results:
            ratio = median(results[ours], "pause_s") / median(results["bare fork"], "pause_s")
            parts.append(f"pause {ratio:.2f} x a bare fork")
        for other in ("fork+SIGSEGV+tar", "gcore+tar"):
            if other in results:
                sooner = median(results[other], "total_s") / median(results[ours], "total_s")
                size = median(results[ours], "archive_bytes") / median(results[other], "archive_bytes")
                pause = median(results[other], "pause_s") / median(results[ours], "pause_s")
                parts.append(
                    f"{sooner:.1f} x sooner than {other} (its pause {pause:.1f} x ours, our size {size:.0%})"
                )
        print(f"  {ours}: " + "; ".join(parts))


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024], help="MiB of the process")
    parser.add_argument("--threads", type=int, nargs="+", default=[4], help="threads of the process")
    parser.add_argument(
        "--memory",
        nargs="+",
        default=["mixed"],
        choices=["mixed", "random", "compressible", "sparse"],
        help="contents: mixed is one quarter random, three quarters JSON",
    )
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where archives are written (default: a temporary folder)")
    options = parser.parse_args()
    ways = [way for way in options.ways if way != "gcore+tar" or shutil.which("gcore")]
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        for size in options.sizes:
            for threads in options.threads:
                for memory in options.memory:
                    results: dict[str, list[Sample]] = {way: [] for way in ways}
                    for _ in range(options.rounds):
                        for way in ways:
                            results[way].append(measure(way, Path(folder), size, threads, memory))
                    show(f"{size} MiB, {threads} threads, {memory} memory, {options.rounds} rounds", results)


if __name__ == "__main__":
    main()
