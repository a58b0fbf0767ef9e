"""Build the engine's C files outside of Python: what CI compiles, and how."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "pytest_gencore" / "capture" / "csrc"
NATIVE = ROOT / "tests" / "native"
PROGRAMS = NATIVE / "programs"
GLUE = {
    "cancel_triggers.c",
    "child_triggers.c",
    "free_threads.c",
    "module.c",
    "peek.c",
    "probe.c",
    "probe_heap.c",
    "raises.c",
    "triggers.c",
    "thread_calls.c",
    "worker_calls.c",
}
"""The files that know Python."""
SIGNAL_SAFE_SOURCES = sorted(path for path in CSRC.glob("*.c") if path.name not in GLUE)
"""Everything that may run while threads are stopped."""
STRICT = (
    *("-std=gnu11", "-D_GNU_SOURCE", f"-I{CSRC}", "-g", "-O2", "-pthread"),
    *("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wvla", "-Werror"),
)
SANITIZERS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    # A helper leaves its frame by execve: what its scopes poisoned on the shared stack would stay so.
    "-fno-sanitize-address-use-after-scope",
)


def compile_c(
    output: Path, sources: Sequence[Path], flags: Sequence[str] = (), compiler: str = "gcc"
) -> Path:
    """Compile with warnings as errors; return ``output``."""
    command = [compiler, *STRICT, *flags, *map(str, sources), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return output


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of pytest-xdist have, and no other session."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "builds"
    folder.mkdir(exist_ok=True)
    return folder


def kernel_headers(builds: Path) -> list[str]:
    """Return options for a compiler whose C library comes without the kernel's headers."""
    folder = builds / "kernel-headers"
    folder.mkdir(exist_ok=True)
    for path in (
        *Path("/usr/include").glob("asm*"),
        *Path("/usr/include").glob("*-linux-gnu/asm"),
        Path("/usr/include/linux"),
    ):
        with contextlib.suppress(FileExistsError):
            folder.joinpath(path.name).symlink_to(path)
    return ["-idirafter", str(folder)]


def compile_once(
    output: Path, sources: Sequence[Path], flags: Sequence[str] = (), compiler: str = "gcc"
) -> Path:
    """Compile unless another worker has, or wait for it while it does."""
    with output.with_name(f"{output.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not output.exists():
            partial = compile_c(output.with_name(f"{output.name}.partial"), sources, flags, compiler)
            partial.rename(output)
    return output


def run_subject(program: str, *arguments: object, prefix: Sequence[str] = (), timeout: float = 60) -> str:
    """Run a Python program of ``programs`` to its end; return its standard output.

    ``prefix`` is a command that runs it.
    """
    done = subprocess.run(
        [*prefix, sys.executable, str(PROGRAMS / program), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{program} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
