"""The ways to get a core archive, as the captured process itself does them."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from results import FORK, GCORE, GCORE_TAR, KERNEL, KERNEL_CORE, LIMIT, MEMORY, MEMORY_CORE, PLAIN

from pytest_gencore.archive.gzip_writer import CompressedOutput
from pytest_gencore.capture import CaptureEngine, CaptureRequest, new_run_id
from pytest_gencore.run.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_gencore.capture import Method


BLOCK = 1 << 20
"""What the compressor takes at once, and what the process holds its memory in."""


@dataclass(frozen=True, slots=True)
class Times:
    """When what was there, in seconds of ``time.perf_counter``; None if this way does not make it."""

    core: float | None
    archive: float | None
    archive_bytes: int | None


def prepare(way: str, directory: Path, kept: Sequence[object]) -> Callable[[], Times]:
    """Return what is measured; everything that a pytest run does long before a capture is done here.

    ``kept`` will be what the process holds.
    """
    if way in {MEMORY, KERNEL, MEMORY_CORE, KERNEL_CORE}:
        return _prepare_ours(
            "memory" if way in {MEMORY, MEMORY_CORE} else "kernel", directory, way in {MEMORY, KERNEL}
        )
    return {
        FORK: _fork,
        LIMIT: lambda: _compress(kept, directory),
        PLAIN: lambda: _pack(_crash_fork(directory), directory),
        GCORE: lambda: Times(_gcore(directory)[1], None, None),
        GCORE_TAR: lambda: _pack(_gcore(directory), directory),
    }[way]


def _prepare_ours(method: Method, directory: Path, is_archive: bool) -> Callable[[], Times]:
    run_id = new_run_id()
    engine, run = CaptureEngine(directory, run_id), Run(directory, run_id)
    product: Literal["archive", "core"] = "archive" if is_archive else "core"

    def capture() -> Times:
        engine.capture(CaptureRequest(trigger="request", method=method, product=product))
        (outcome,) = run.wait()
        ended = time.perf_counter()
        run.close()
        assert outcome.state == "done", outcome.reason
        assert outcome.method == method, outcome.reason
        return Times(None, ended, outcome.size_bytes) if is_archive else Times(ended, None, None)

    return capture


def _fork() -> Times:
    """Fork a child that ends at once: the pause that no snapshot can beat."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return Times(None, None, None)


def _compress(kept: Sequence[object], directory: Path) -> Times:
    """Compress the memory from where it is, in as many threads as a collector: no archive can be sooner."""
    blocks = [memoryview(held) for held in kept if isinstance(held, bytearray)]

    def read(position: int, buffer: memoryview) -> None:
        buffer[:] = blocks[position // BLOCK]

    with (directory / "limit.gz").open("wb") as file:
        output = CompressedOutput(file.fileno(), None)
        output.write_from(read, [(number * BLOCK, len(block)) for number, block in enumerate(blocks)])
        output.close()
        return Times(None, time.perf_counter(), output.bytes_out)


def _crash_fork(directory: Path) -> tuple[Path, float]:
    """Fork, SIGSEGV, wait: return the kernel's core and when it was whole."""
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(directory)
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            Path("/proc/self/coredump_filter").write_text("0xff")
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGSEGV)
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    ended = time.perf_counter()
    (core,) = directory.glob("core*")
    return core, ended


def _gcore(directory: Path) -> tuple[Path, float]:
    """Let gdb's gcore write the core: return it and when it was whole."""
    command = ["gcore", "-o", str(directory / "gcore"), str(os.getpid())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended = time.perf_counter()
    (core,) = directory.glob("gcore*")
    return core, ended


def _pack(made: tuple[Path, float], directory: Path) -> Times:
    """Pack core, executable and libraries as the ancestor does: ``tar czf``."""
    core, core_at = made
    archive = directory / "plain.tar.gz"
    lines = Path("/proc/self/maps").read_text().splitlines()
    files = {line.split(None, 5)[5] for line in lines if ".so" in line}
    files.add(os.path.realpath(sys.executable))
    names = sorted(name for name in files if Path(name).exists())
    subprocess.run(["tar", "czPf", archive, core, *names], check=True, stderr=subprocess.DEVNULL)
    return Times(core_at, time.perf_counter(), archive.stat().st_size)
