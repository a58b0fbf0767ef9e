"""What a worker's process is asked before its tests are known: execnet sends this file.

Nothing of ours is imported there: pytest wants to import it itself.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from importlib.machinery import PathFinder
from typing import Any


def describe_system() -> list[object]:
    """Return the kernel's boot, what this process sees of mounts and processes, its root directory, its user.

    Processes of which all this is the same find the same files, and each other, and may use them.
    """
    facts: list[object] = [read_text("/proc/sys/kernel/random/boot_id")]
    for name in ("mnt", "pid"):
        with contextlib.suppress(OSError, AttributeError):
            facts.append(os.readlink(f"/proc/self/ns/{name}"))  # noqa: PTH115 - as text
    root = os.stat("/")  # noqa: PTH116 - a path that needs no object
    user = os.geteuid() if hasattr(os, "geteuid") else None
    return [*facts, root.st_dev, root.st_ino, user]


def read_text(path: str) -> str:
    """Return what a file has, empty if it cannot be read."""
    try:
        with open(path, errors="replace") as file:  # noqa: PTH123 - likewise
            return file.read()
    except OSError:
        return ""


def has_plugin(paths: list[str]) -> bool:
    """Whether our package is there, or in one of ``paths``."""
    name = "pytest_gencore"
    return (importlib.util.find_spec(name) or PathFinder.find_spec(name, paths)) is not None


def answer(channel: Any) -> None:
    """Say all that is wanted."""
    paths = channel.receive()
    stat = read_text("/proc/self/stat")
    channel.send((describe_system(), has_plugin(paths), os.getcwd(), os.getpid(), stat))  # noqa: PTH109 - as text


if __name__ == "__channelexec__":
    answer(globals()["channel"])
