"""Start the subject, watch it from outside, and say when it is not worth starting."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from results import FORK, GCORE, GCORE_TAR, KERNEL, KERNEL_CORE, LIMIT, OTHERS, PLAIN, Cell, Sample, Spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUBJECT = Path(__file__).with_name("subject.py")
MIB = 1 << 20
TICKS = os.sysconf("SC_CLK_TCK")
INTERVAL_S = 0.01


class StoppedError(Exception):
    """A measurement that came to nothing, and why."""


@dataclass
class Measurer:
    """Measures ways on processes; what it has measured says what will take too long."""

    directory: Path
    limit_s: float
    """Ways that are not ours are not started if they would take longer."""
    past: dict[tuple[str, int, str], dict[int, float]] = field(default_factory=dict)
    """Seconds by size in MiB, of each way, number of threads and memory."""

    def measure_cell(self, spec: Spec, ways: Sequence[str], rounds: int) -> Cell:
        """Measure every way once a round, so that all see the same moods of the machine."""
        cell = Cell(spec)
        for number in range(rounds):
            for way in ways:
                reason = cell.skipped.get(way) or (None if number else self.reason_to_skip(way, spec))
                if reason is None:
                    print(f"  {spec}: {way}, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                    try:
                        cell.samples.setdefault(way, []).append(self.measure(way, spec))
                    except StoppedError as error:
                        reason = str(error)
                if reason is not None:
                    cell.skipped[way] = reason
                    cell.samples.pop(way, None)
        return cell

    def reason_to_skip(self, way: str, spec: Spec) -> str | None:
        """Return why a way is not to be started; see "What is left out" in docs/explanation/benchmarks.md."""
        if way == LIMIT and (spec.memory == "sparse" or spec.reserved_mib):
            return "its memory is not in blocks"
        if way in {GCORE, GCORE_TAR} and shutil.which("gcore") is None:
            return "gcore is not installed"
        if way in {PLAIN, KERNEL, KERNEL_CORE}:
            pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
            if not pattern.startswith("core") or "/" in pattern:
                return "core_pattern does not write cores into the working directory"
        return self._find_shortage(way, spec)

    def _find_shortage(self, way: str, spec: Spec) -> str | None:
        """Return what is too short for a way: memory, disk, time."""
        memory = int(spec.size_mib * 1.25) + 512
        available = psutil.virtual_memory().available // MIB
        if memory > available:
            return f"needs {memory} MiB of memory, {available} are there"
        disk = disk_need(way, spec)
        usage = psutil.disk_usage(str(self.directory))
        spare = (usage.free - usage.total // 20) // MIB
        if disk > spare:
            return f"needs {disk} MiB on the disk, {max(0, spare)} can be used"
        expected = extrapolate(self.past.get((way, spec.threads, spec.memory), {}), spec.size_mib)
        if way in OTHERS and expected > self.limit_s:
            return f"would take about {expected / 60:.1f} min, the limit is {self.limit_s / 60:g}"
        return None

    def measure(self, way: str, spec: Spec) -> Sample:
        """Capture once; peaks are sampled."""
        artifacts = self.directory / "artifacts"
        artifacts.mkdir()
        given = {"way": way, "directory": str(artifacts), "spec": asdict(spec)}
        process = subprocess.Popen(
            [sys.executable, SUBJECT, json.dumps(given)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        watch = Watch(process.pid, artifacts)
        deadline = time.monotonic() + 2 * self.limit_s + 120
        try:
            while process.poll() is None:
                watch.look()
                time.sleep(INTERVAL_S)
                if time.monotonic() > deadline:
                    raise StoppedError(f"was stopped after {2 * self.limit_s + 120:.0f} s")
            output, errors = process.communicate()
            if process.returncode or not output:
                last = (errors.strip().splitlines() or [f"status {process.returncode}"])[-1]
                raise StoppedError(f"failed: {last}")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with gdb or tar
                process.communicate()
            shutil.rmtree(artifacts, ignore_errors=True)
        sample = watch.make_sample(way, json.loads(output))
        end = sample.archive_s or sample.core_s
        if end is not None:
            self.past.setdefault((way, spec.threads, spec.memory), {})[spec.size_mib] = end
        return sample


def extrapolate(seconds: dict[int, float], size: int) -> float:
    """Return what a size will take: on the line through the two sizes before, or through one and nothing."""
    if not seconds:
        return 0.0
    before, last = ([0, *sorted(seconds)])[-2:]
    slope = (seconds[last] - seconds.get(before, 0.0)) / (last - before)
    return seconds[last] + slope * (size - last)


def disk_need(way: str, spec: Spec) -> int:
    """Return how many MiB of disk a way may take: core and archive; gcore writes untouched memory, too."""
    copies = {FORK: 0, KERNEL: 2, KERNEL_CORE: 2, PLAIN: 2, GCORE_TAR: 2}.get(way, 1)
    untouched = 1024 + 24 * spec.threads + spec.reserved_mib if way in {GCORE, GCORE_TAR} else 0
    return copies * (spec.size_mib + 128) + untouched


class Watch:
    """Peaks of disk, memory and processor time of whatever works for the subject."""

    def __init__(self, pid: int, artifacts: Path) -> None:
        self._pid = pid
        self._artifacts = artifacts
        self._python = os.path.realpath(sys.executable)
        self._disk = self._memory = 0
        self._cpu = 0.0

    def look(self) -> None:
        """Take one sample."""
        collectors = list(self._collectors())
        nameless = sum(_nameless_usage(pid, self._artifacts) for pid in collectors)
        self._disk = max(self._disk, nameless + sum(_usage_of(self._artifacts)))
        for pid in collectors:
            self._memory = max(self._memory, peak_memory(pid))
        for pid in _family(self._pid)[1:]:
            if _executable(pid) not in {"", self._python}:  # not: a fork of the subject
                self._memory = max(self._memory, peak_memory(pid))
        self._cpu = max(self._cpu, sum(_cpu_of(member) for pid in collectors for member in _family(pid)))

    def make_sample(self, way: str, result: dict[str, Any]) -> Sample:
        """Return what was seen here and in the subject."""
        has_no_helper = way in {FORK, LIMIT}
        return Sample(
            pause_s=result["pause_s"],
            core_s=result["core_s"],
            archive_s=result["archive_s"],
            archive_bytes=result["archive_bytes"],
            disk_bytes=None if has_no_helper else self._disk,
            memory_bytes=None if has_no_helper else self._memory,
            cpu_s=None if has_no_helper else self._cpu + result["children_cpu_s"],
            own_cpu_s=result["own_cpu_s"],
        )

    def _collectors(self) -> Iterator[int]:
        for state in self._artifacts.glob(".gencore-*/*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                yield int(json.loads(state.read_bytes())["pid"])


def _usage_of(directory: Path) -> Iterator[int]:
    """Yield the allocated size of each file below."""
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                yield (Path(folder) / name).lstat().st_blocks * 512


def _nameless_usage(pid: int, directory: Path) -> int:
    """Return the allocated size of files without a name that a process has open on that file system."""
    device, total = directory.stat().st_dev, 0
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                status = descriptor.stat()
                if status.st_nlink == 0 and status.st_dev == device and stat.S_ISREG(status.st_mode):
                    total += status.st_blocks * 512
    return total


def _family(pid: int) -> list[int]:
    """Return the process and what its first threads have started; no list of all processes is read."""
    children: list[str] = []
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in _family(int(child)))]


def _executable(pid: int) -> str:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/exe").readlink())
    return ""


def peak_memory(pid: int) -> int:
    """Return the peak resident size: VmHWM of proc(5); 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _cpu_of(pid: int) -> float:
    """Return the seconds of processor time of the process and the children that it has reaped."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(number) for number in fields[11:15]) / TICKS
    return 0.0
