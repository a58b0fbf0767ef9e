"""A sandbox made by bubblewrap, https://github.com/containers/bubblewrap, where that may make one.

In it there are the programs of the system and one folder, all read-only: no home, no working directory, no
``/proc``, no network, no other process.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_TRIAL_SECONDS: Final = 10
_LINKS: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
_PROGRAMS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libexec", "share")
_SYSTEM: Final = (
    *(f"/usr/{name}" for name in _PROGRAMS),
    *(f"/usr/local/{name}" for name in _PROGRAMS),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *("/nix/store", "/gnu/store"),
)
_SYSTEM_PREFIXES: Final = ("/", "/usr", "/usr/local")
_LINKS_LIMIT: Final = 40
_OF_A_PREFIX: Final = ("bin", "lib", "lib32", "lib64", "libexec", "share/gdb", "pyvenv.cfg")
_PACKAGE: Final = str(Path(__file__).parent)


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


def sandboxed(
    bubblewrap: str,
    command: Sequence[str],
    *,
    folder: str,
    programs: Iterable[str],
    files: Iterable[str] = (),
) -> list[str]:
    """Return the command that runs a command in a sandbox with ``folder``.

    ``programs`` are the paths of those that it starts: one that is not the system's is there with what is
    installed beside it. ``files`` are there too.
    """
    parts = dict.fromkeys(part for program in programs for part in _installed_with(Path(program)))
    return [*_sandbox(bubblewrap, (*parts, _PACKAGE, *files, folder)), "--chdir", folder, *command]


def _sandbox(program: str, paths: Iterable[str]) -> list[str]:
    parts = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    for path in _SYSTEM:
        parts += ["--ro-bind-try", path, path]
    for path in _LINKS:
        is_link = os.path.islink(path)  # noqa: PTH114 - a str
        parts += ["--symlink", os.readlink(path), path] if is_link else ["--ro-bind-try", path, path]  # noqa: PTH115
    parts += ["--dev", "/dev"]
    for path in paths:
        parts += ["--ro-bind", path, path]
    return [*parts, "--remount-ro", "/"]


def _installed_with(program: Path) -> Iterator[str]:
    """Yield what a program needs of what it is installed with, and all that it is a link to."""
    for _ in range(_LINKS_LIMIT):
        yield from _beside(program)
        if not program.is_symlink():
            break
        program = Path(os.path.normpath(program.parent / program.readlink()))
    yield from _beside(program.resolve())


def _beside(program: Path) -> Iterator[str]:
    prefix = program.parent.parent
    if str(prefix) in _SYSTEM_PREFIXES:
        return
    if program.parent.name != "bin":
        yield str(program)
        return
    for name in _OF_A_PREFIX:
        if (prefix / name).exists():
            yield str(prefix / name)
