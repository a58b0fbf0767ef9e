"""Whether this is a container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_MARKS: Final = (("/.dockerenv", "Docker"), ("/run/.containerenv", "Podman"))
_GVISOR_BUILD: Final = "Sun Jan 10 15:06:54 PST 2016"
"""What gVisor's /proc/version always says (its ``pkg/sentry/fsimpl/proc``)."""


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


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
