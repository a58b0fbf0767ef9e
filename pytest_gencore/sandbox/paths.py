"""Which files a program needs that reads an unpacked archive: the system's programs, its own, no others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LINKS: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
"""Folders of the system that may be links."""
_PROGRAMS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libexec", "share")
SYSTEM: Final = (
    *(f"/usr/{name}" for name in _PROGRAMS),
    *(f"/usr/local/{name}" for name in _PROGRAMS),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *("/nix/store", "/gnu/store"),
)
"""What of it is there."""
_SYSTEM_PREFIXES: Final = ("/", "/usr", "/usr/local")
_LINKS_LIMIT: Final = 40
_OF_A_PREFIX: Final = ("bin", "lib", "lib32", "lib64", "libexec", "share/gdb", "pyvenv.cfg")
_PACKAGE: Final = str(Path(__file__).parent)


def needed_paths(folder: str, programs: Iterable[str], files: Iterable[str] = ()) -> list[str]:
    """Return what is needed besides the system: ``folder``, ``files``, and what belongs to ``programs``.

    ``programs`` are the paths of those that are started: one that is not the system's needs what is installed
    beside it.
    """
    parts = dict.fromkeys(part for program in programs for part in _installed_with(Path(program)))
    return [*parts, _PACKAGE, *files, folder]


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
