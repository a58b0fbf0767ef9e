"""A memory cgroup of our own, version 1 or 2; needs root."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


def find_hierarchy() -> Path | None:
    """Return where a child with the memory controller can be made, None if nowhere."""
    with contextlib.suppress(OSError):
        if "memory" in (V2 / "cgroup.subtree_control").read_text().split() and os.access(V2, os.W_OK):
            return V2
    return V1 if (V1 / "memory.limit_in_bytes").exists() and os.access(V1, os.W_OK) else None


@contextlib.contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[Path]:
    """Make a cgroup that kills above the limit; a process joins by writing its pid to ``cgroup.procs``."""
    hierarchy = find_hierarchy()
    assert hierarchy is not None
    folder = hierarchy / f"gencore-test-{os.getpid()}"
    folder.mkdir()
    try:
        name = "memory.limit_in_bytes" if hierarchy == V1 else "memory.max"
        (folder / name).write_text(str(limit_bytes))
        with contextlib.suppress(OSError):
            (folder / "memory.swap.max").write_text("0")
        yield folder
    finally:
        folder.rmdir()
