"""Whether this is a container, and how much memory its limits leave."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKS: Final = (("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman"))
_GVISOR_BUILD: Final = "Sun Jan 10 15:06:54 PST 2016"
"""What gVisor's /proc/version always says (its ``pkg/sentry/fsimpl/proc``)."""
_CGROUPS: Final = Path("/sys/fs/cgroup")


def find_container() -> str:
    """Return the kind of container that this process is in, as far as it shows; empty if it is none."""
    if _GVISOR_BUILD in _read(Path("/proc/version")):
        return "gVisor"
    for mark, name in _MARKS:
        if Path(mark).exists():
            return name
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "Kubernetes"
    return os.environ.get("container", "")  # noqa: SIM112 - systemd's name


def available_memory() -> int | None:
    """Return the bytes that processes here can still have, by machine and cgroup; None if unknown."""
    values = [value for value in (_machine_memory(), *_cgroup_memory()) if value is not None]
    return max(0, min(values)) if values else None


def _machine_memory() -> int | None:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def _cgroup_memory() -> Iterator[int]:
    """Yield what each cgroup from ours up to the root leaves: versions 2 and 1, see cgroups(7)."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, usage = _CGROUPS, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, usage = _CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = top / path.lstrip("/")
        while folder.is_relative_to(top):
            maximum, used = _read(folder / limit), _read(folder / usage)
            if maximum.isdigit() and used.isdigit():
                yield int(maximum) - int(used)
            folder = folder.parent


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
