"""A cgroup of our own that limits the number of tasks, version 1 or 2; needs root."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kernel import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

V1 = Path("/sys/fs/cgroup/pids")
V2 = Path("/sys/fs/cgroup")


def find_pids_hierarchy() -> Path | None:
    """Return where a child with the pids controller can be made, None if nowhere."""
    with contextlib.suppress(OSError):
        if "pids" in (V2 / "cgroup.subtree_control").read_text().split() and os.access(V2, os.W_OK):
            return V2
    return V1 if (V1 / "cgroup.procs").exists() and os.access(V1, os.W_OK) else None


@contextlib.contextmanager
def pids_cgroup(limit: int) -> Iterator[tuple[str, ...]]:
    """Make one; yields what runs a command in it, to be put before that."""
    hierarchy = find_pids_hierarchy()
    assert hierarchy is not None
    folder = hierarchy / f"gencore-test-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "pids.max").write_text(str(limit))
        yield ("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh")
    finally:
        wait_until(lambda: not (folder / "cgroup.procs").read_text(), "the cgroup is empty")
        folder.rmdir()
