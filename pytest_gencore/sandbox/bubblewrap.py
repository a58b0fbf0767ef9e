"""A sandbox made by bubblewrap, https://github.com/containers/bubblewrap, where that may make one.

In it there are the programs of the system and one folder, all read-only: no home, no working directory, no
``/proc``, no network, no other process.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from pytest_gencore.sandbox.paths import LINKS, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_TRIAL_SECONDS: Final = 10


@functools.cache
def find_bubblewrap() -> str | None:
    """Return bubblewrap's program if it can make a sandbox here; tries it once."""
    program, harmless = shutil.which("bwrap"), shutil.which("true")
    if program is None or harmless is None:
        return None
    try:
        done = subprocess.run(
            [*_sandbox(program, ()), harmless],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return program if done.returncode == 0 else None


def sandboxed(bubblewrap: str, command: Sequence[str], *, folder: str, paths: Iterable[str]) -> list[str]:
    """Return the command that runs a command in a sandbox with ``paths``, in ``folder``, one of them."""
    return [*_sandbox(bubblewrap, paths), "--chdir", folder, *command]


def _sandbox(program: str, paths: Iterable[str]) -> list[str]:
    parts = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    for path in SYSTEM:
        parts += ["--ro-bind-try", path, path]
    for path in LINKS:
        is_link = os.path.islink(path)  # noqa: PTH114 - a str
        parts += ["--symlink", os.readlink(path), path] if is_link else ["--ro-bind-try", path, path]  # noqa: PTH115
    parts += ["--dev", "/dev"]
    for path in paths:
        parts += ["--ro-bind", path, path]
    return [*parts, "--remount-ro", "/"]
