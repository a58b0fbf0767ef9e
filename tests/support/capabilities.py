"""What this machine can do, found by trying.

With GENCORE_REQUIRE_ALL=1 tests that need what CI must have run, and so fail, where it is missing.
"""

from __future__ import annotations

import functools
import mmap
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from far_host import can_be_another_host
from memory_cgroup import find_hierarchy
from pids_cgroup import find_pids_hierarchy
from wine import find_wine

from pytest_gencore.sandbox.bubblewrap import find_bubblewrap
from pytest_gencore.sandbox.landlock import has_landlock

if TYPE_CHECKING:
    from collections.abc import Callable

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
HUGE_PAGE = 2 << 20
PROGRAMS = {
    "gdb": "gdb",
    "lldb": "lldb",
    "eu-stack": "eu-stack",
    "readelf": "readelf",
    "gcc": "gcc",
    "musl-gcc": "musl-gcc",
    "aarch64": "aarch64-linux-gnu-gcc",
    "qemu": "qemu-aarch64",
    "mingw": "x86_64-w64-mingw32-gcc",
    "age": "age",
    "ssh-keygen": "ssh-keygen",
    "strace": "strace",
    "jq": "jq",
    "groff": "groff",
    "chromium": "chromium",
}


def find_python_program(name: str) -> str | None:
    """Return a program of the Python environment that runs the tests."""
    import sys

    return shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")


def has_program(program: str) -> bool:
    """Whether a program is on PATH."""
    return shutil.which(program) is not None


def has_plain_core_pattern() -> bool:
    """Whether the kernel writes a core into the working directory."""
    text = CORE_PATTERN.read_text().strip()
    return bool(text) and not text.startswith(("|", "@", "/"))


def has_huge_pages() -> bool:
    """Whether a huge page can be mapped now."""
    try:
        mmap.mmap(-1, HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000).close()
    except OSError:
        return False
    return True


PROBES: dict[str, Callable[[], bool]] = {
    **{name: functools.partial(has_program, program) for name, program in PROGRAMS.items()},
    "pystack": lambda: find_python_program("pystack") is not None,
    "s3": lambda: find_python_program("rclone") is not None and find_spec("s3fs") is not None,
    "py-spy": lambda: find_python_program("py-spy") is not None,
    "bubblewrap": lambda: find_bubblewrap() is not None,
    "landlock": has_landlock,
    "bindfs": lambda: has_program("bindfs") and os.access("/dev/fuse", os.R_OK | os.W_OK),
    "another host": can_be_another_host,
    "wine": lambda: find_wine() is not None,
    "root": lambda: os.geteuid() == 0,
    "plain core_pattern": has_plain_core_pattern,
    "pids_cgroup": lambda: os.geteuid() == 0 and find_pids_hierarchy() is not None,
    "memory_cgroup": lambda: os.geteuid() == 0 and find_hierarchy() is not None,
}
REQUIRED = (
    "gdb",
    "eu-stack",
    "readelf",
    "pystack",
    "root",
    "another host",
    "s3",
    "gcc",
    "musl-gcc",
    "aarch64",
    "age",
    "jq",
    "chromium",
    "mingw",
    "wine",
)
"""What CI must have."""


def missing_but_required() -> list[str]:
    """Return what GENCORE_REQUIRE_ALL=1 demands and this machine has not."""
    if os.environ.get("GENCORE_REQUIRE_ALL") != "1":
        return []
    return [name for name in REQUIRED if not PROBES[name]()]


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip where something is missing; but run, and so fail, where it is required."""
    missing = [name for name in names if not PROBES[name]()]
    required = missing_but_required()
    return pytest.mark.skipif(
        bool(missing) and not any(name in required for name in missing), reason=f"no {', '.join(missing)}"
    )


both_methods = pytest.mark.parametrize(
    "method", ["memory", pytest.param("kernel", marks=needs("plain core_pattern"))]
)
"""Run a test with each method, as far as the kernel writes cores here."""
