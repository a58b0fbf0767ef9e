"""The process that the benchmark captures: fills memory, starts threads, captures itself, measures its pause.

Prints one line of JSON. Usage: subject.py WAY DIRECTORY MIB THREADS MEMORY
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytest_gencore.capture import CaptureEngine, CaptureRequest, Run, new_run_id

if TYPE_CHECKING:
    from pytest_gencore.capture import Method

MIB = 1024 * 1024
OURS: list[Any] = []
TEXT = b"".join(b'{"id": %d, "name": "item %d", "tags": ["a", "b"]}\n' % (i, i * 7919) for i in range(20000))


def fill(size: int, kind: str) -> list[bytearray]:
    """Return blocks of `size` MiB in all: random, compressible (JSON lines), mixed, or sparse (untouched)."""
    blocks = []
    for number in range(size):
        if kind == "sparse" and number % 2:
            blocks.append(bytearray(MIB))  # calloc: pages of it are touched only by the allocator's header
        elif kind == "random" or (kind in {"mixed", "sparse"} and number % 4 == 0):
            blocks.append(bytearray(os.urandom(MIB)))
        else:
            start = number * 4099 % len(TEXT)
            blocks.append(bytearray((TEXT[start:] + TEXT)[:MIB]))
    return blocks


class Ticker(threading.Thread):
    """Sees the pauses of the process: the longest time between two of its ticks."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest = 0.0
        self.running = threading.Event()
        self.ended = False

    def run(self) -> None:
        """Tick every half millisecond."""
        last = time.perf_counter()
        while not self.ended:
            time.sleep(0.0005)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            last = now
            self.running.set()


def capture_ours(way: str, directory: Path) -> tuple[float, Path]:
    """Capture with this project, prepared as in a pytest run; return seconds of the call and the archive."""
    engine, run = OURS
    started = time.perf_counter()
    capture = engine.capture(CaptureRequest(trigger="request", method=cast("Method", way)))
    called = time.perf_counter() - started
    (outcome,) = run.wait()
    run.close()
    assert outcome.state == "done", outcome.reason
    return called, capture.archive


def pack(directory: Path, core: Path) -> Path:
    """Pack core, executable and libraries as the ancestor does."""
    archive = directory / "plain.tar.gz"
    lines = Path("/proc/self/maps").read_text().splitlines()
    files = {line.split(None, 5)[5] for line in lines if ".so" in line}
    files.add(os.path.realpath(sys.executable))
    files = {name for name in files if Path(name).exists()}
    subprocess.run(["tar", "czPf", archive, core, *sorted(files)], check=True, stderr=subprocess.DEVNULL)
    core.unlink()
    return archive


def capture_plain(_way: str, directory: Path) -> tuple[float, Path]:
    """Fork, SIGSEGV, wait, tar czf."""
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.chdir(directory)
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path("/proc/self/coredump_filter").write_text("0xff")
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    called = time.perf_counter() - started
    os.waitpid(pid, 0)
    (core,) = directory.glob("core*")
    return called, pack(directory, core)


def capture_gcore(_way: str, directory: Path) -> tuple[float, Path]:
    """Let gdb's gcore write the core, then tar czf."""
    started = time.perf_counter()
    subprocess.run(
        ["gcore", "-o", directory / "gcore", str(os.getpid())],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    called = time.perf_counter() - started
    (core,) = directory.glob("gcore*")
    return called, pack(directory, core)


def bare_fork(_way: str, _directory: Path) -> tuple[float, Path]:
    """Fork a child that ends at once: the pause that no snapshot can beat."""
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    called = time.perf_counter() - started
    os.waitpid(pid, 0)
    return called, Path(os.devnull)


WAYS = {
    "copy": capture_ours,
    "crash": capture_ours,
    "fork+SIGSEGV+tar": capture_plain,
    "gcore+tar": capture_gcore,
    "bare fork": bare_fork,
}


def main() -> None:
    """Run one measurement."""
    way, directory, size, threads, kind = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]
    directory.mkdir(parents=True, exist_ok=True)
    run_id = new_run_id()
    OURS.extend([CaptureEngine(directory, run_id), Run(directory, run_id)])
    sys.setswitchinterval(0.0005)  # so that the ticker sees pauses of the process, not of the interpreter
    memory = fill(int(size), kind)
    wait = threading.Event()
    for _ in range(int(threads) - 2):
        threading.Thread(target=wait.wait, daemon=True).start()
    ticker = Ticker()
    ticker.start()
    ticker.running.wait()
    ticker.longest = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    call, archive = WAYS[way](way, directory)
    total = time.perf_counter() - started
    ticker.ended = True
    ticker.join()
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "call_s": call,
                "pause_s": ticker.longest,
                "total_s": total,
                "archive_bytes": archive.stat().st_size,
                "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "blocks": len(memory),
            }
        )
    )
    sys.stdout.flush()
    shutil.rmtree(directory, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
