"""How much memory is left, and whether a capture of a process fits into it.

While a snapshot is read, every page that the process changes exists twice: in the worst case all of them. The
process can be held until the snapshot is read; then only the snapshot's page tables and the collector come on
top. See docs/reference/limits.md.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pytest_gencore.unpatched import posix

if TYPE_CHECKING:
    from collections.abc import Iterator

_RAW: Final = (posix.open, posix.read, posix.close)
"""Kept as they are: a test of this process may have patched ``open``, ``os`` and ``pathlib``."""
_list: Final = posix.listdir
_PAGE_SIZE: Final = os.sysconf("SC_PAGESIZE") if hasattr(os, "sysconf") else 4096
_FILE_LIMIT: Final = 1 << 20

COLLECTOR_BYTES: Final = 96 << 20
"""What a collector takes at most, whatever the size of the core."""
PAGE_TABLE_PART: Final = 256
"""Page tables take a 512th of the memory that they map; twice that, for what is mapped sparsely."""
_UNLIMITED: Final = 1 << 60
"""Cgroups of version 1 say a number near 2^63 for "no limit"."""
_CACHE_V2: Final = ("active_file", "inactive_file")
_CACHE_V1: Final = ("total_active_file", "total_inactive_file")
"""Of ``memory.stat``: what the kernel gives back before it kills; files in memory (shmem) are not in it."""


class Usage(NamedTuple):
    """How much of one limit is used."""

    used: int
    """Bytes, without file cache."""
    limit: int
    """Bytes."""
    owner: Literal["cgroup", "machine"]

    @property
    def percent(self) -> float:
        """Return which part of the limit that is."""
        return 100 * self.used / self.limit if self.limit else 100.0


def judge(headroom: int | None, rss_bytes: int) -> Literal["go", "hold", "refuse"]:
    """Say how a process of ``rss_bytes`` can be captured with so much memory left.

    ``go``: all its pages may be changed while the snapshot is read. ``hold``: there is room for page tables
    and collector only, so the process must stand still until the snapshot is read. ``refuse``: not even that.
    Unknown headroom (None) is taken for enough.
    """
    if headroom is None:
        return "go"
    least = COLLECTOR_BYTES + rss_bytes // PAGE_TABLE_PART
    if headroom >= least + rss_bytes:
        return "go"
    return "hold" if headroom >= least else "refuse"


def largest_rss(headroom: int) -> int | None:
    """Return how large a process can be that goes on while its snapshot is read; None if none is captured."""
    left = headroom - COLLECTOR_BYTES
    return None if left < 0 else left * PAGE_TABLE_PART // (PAGE_TABLE_PART + 1)


def read_headroom(root: str = "") -> int | None:
    """Return how many bytes this process and others in its cgroups can still take before one is killed.

    The least of MemAvailable (proc(5)) and, for each memory cgroup it is in up to the top, limit less usage
    without file cache. None if nothing of that can be read. Swap is not counted. ``root`` comes before all
    paths.
    """
    found = [usage.limit - usage.used for usage in _read_usages(root)]
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = _read_text(f"{root}/proc/meminfo").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return max(0, min(found)) if found else None


def find_fullest(root: str = "") -> Usage | None:
    """Return of what this process uses the largest part: of a cgroup with a limit, or of the machine.

    The same is compared as for ``read_headroom``. None if nothing of that can be read.
    """
    usages = list(_read_usages(root))
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = _read_text(f"{root}/proc/meminfo").splitlines()
        sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        if "MemTotal" in sizes and "MemAvailable" in sizes:
            usages.append(Usage(sizes["MemTotal"] - sizes["MemAvailable"], sizes["MemTotal"], "machine"))
    return max(usages, key=lambda usage: usage.percent, default=None)


def read_rss(root: str = "", process: int | str = "self") -> int:
    """Return the resident memory of a process in bytes, 0 if it cannot be read."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(_read_text(f"{root}/proc/{process}/statm").split()[1]) * _PAGE_SIZE
    return 0


def read_children_rss(pid: int) -> int:
    """Return the resident memory of all descendants of a process; those that end meanwhile count nothing."""
    left, seen, total = [pid], {pid}, 0
    while left:
        folder = f"/proc/{left.pop()}/task"
        with contextlib.suppress(OSError, ValueError):
            for task in _list(folder):
                children = {int(child) for child in _read_text(f"{folder}/{task}/children").split()} - seen
                total += sum(read_rss(process=child) for child in children)
                left += children
                seen |= children
    return total


def _read_usages(root: str) -> Iterator[Usage]:
    """Yield what is used of every memory cgroup with a limit."""
    for folder, is_v1 in memory_cgroups(root):
        usage = _usage_v1(folder) if is_v1 else _usage_v2(folder)
        if usage is not None:
            yield usage


def memory_cgroups(root: str = "", process: int | str = "self") -> Iterator[tuple[str, bool]]:
    """Yield the folders of every memory cgroup that a process is in, and whether it is one of version 1."""
    with contextlib.suppress(OSError, ValueError):
        # The kernel escapes no other end of a line in names: splitlines would split there.
        mounts = _read_text(f"{root}/proc/self/mountinfo").split("\n")
        memberships = _read_text(f"{root}/proc/{process}/cgroup").rstrip("\n").split("\n")
        for line in memberships:
            _, controllers, path = line.split(":", 2)
            is_v1 = "memory" in controllers.split(",")
            if is_v1 or not controllers:
                for mount_root, mount_point in _find_mounts(mounts, is_v1=is_v1):
                    top = f"{root}/{mount_point.strip('/')}"
                    for folder in _folders(top, _relative(path, mount_root)):
                        yield folder, is_v1


def _find_mounts(lines: list[str], *, is_v1: bool) -> Iterator[tuple[str, str]]:
    """Yield root and mount point of the cgroup file systems with memory: see proc(5), ``mountinfo``."""
    for line in lines:
        before, _, after = line.partition(" - ")
        kind, _, options = (*after.split(" "), "", "")[:3]
        fields = before.split(" ")
        is_wanted = kind == "cgroup" and "memory" in options.split(",") if is_v1 else kind == "cgroup2"
        if is_wanted and len(fields) > 4:
            yield fields[3], fields[4]


def _relative(path: str, mount_root: str) -> str:
    """Return a cgroup's path below its mount; containers may see a part of the hierarchy only."""
    if mount_root != "/" and (path == mount_root or path.startswith(f"{mount_root}/")):
        path = path[len(mount_root) :]
    return "" if ".." in path.split("/") else path.strip("/")


def _folders(top: str, relative: str) -> Iterator[str]:
    """Yield the cgroup's folder and all above it; of a path that does not exist here only those that do."""
    parts = [part for part in relative.split("/") if part]
    for count in range(len(parts), -1, -1):
        yield "/".join((top, *parts[:count]))


def _usage_v2(folder: str) -> Usage | None:
    limit = _read(f"{folder}/memory.max")
    usage = _read(f"{folder}/memory.current")
    if limit is None or usage is None:
        return None
    return Usage(usage - _read_cache(folder, _CACHE_V2), limit, "cgroup")


def _usage_v1(folder: str) -> Usage | None:
    limit = _read(f"{folder}/memory.limit_in_bytes")
    usage = _read(f"{folder}/memory.usage_in_bytes")
    if limit is None or usage is None or limit >= _UNLIMITED:
        return None
    return Usage(usage - _read_cache(folder, _CACHE_V1), limit, "cgroup")


def _read(path: str) -> int | None:
    """Return the number in a file, None if there is none (``max``)."""
    try:
        return int(_read_text(path))
    except (OSError, ValueError):
        return None


def _read_cache(folder: str, names: tuple[str, str]) -> int:
    total = 0
    with contextlib.suppress(OSError, ValueError):
        for line in _read_text(f"{folder}/memory.stat").splitlines():
            name, _, value = line.partition(" ")
            if name in names:
                total += int(value)
    return total


def _read_text(path: str) -> str:
    """Return a small file; raises OSError."""
    open_raw, read_raw, close_raw = _RAW
    descriptor = open_raw(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_raw(descriptor, _FILE_LIMIT).decode(errors="replace")
    finally:
        close_raw(descriptor)
