"""How gdb is started on an unpacked archive: with its files and no others, and without running its scripts.

See "Auto-loading" and "Commands to Specify Files" in the gdb manual.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from pytest_gencore.texts import is_plain_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gencore.archive import Manifest
    from pytest_gencore.cli.tools import Tool

_HAS_DEBUGINFOD: Final = (12,)
"""The first version with ``set debuginfod``, besides 11 without its questions."""


def stack_commands(script: Path | None) -> list[str]:
    """Return the commands that print all native stacks, and all Python stacks if there is CPython's script.

    The script comes second because it also changes how native stacks show their arguments.
    """
    commands = ["thread apply all backtrace"]
    return [*commands, f"source {script}", "thread apply all py-bt"] if script else commands


def library_folders(manifest: Manifest, folder: Path) -> list[str]:
    """Return the folders of the libraries in an unpacked archive."""
    parents = {
        PurePosixPath(library.path.lstrip("/")).parent for library in manifest.libraries if library.included
    }
    return sorted(str(folder / parent) for parent in parents)


def executable_in(manifest: Manifest, folder: Path) -> Path | None:
    """Return the executable of an unpacked archive, None if it is not in it."""
    path = folder / manifest.executable.lstrip("/")
    return path if path.is_file() else None


def gdb_command(
    gdb: Tool,
    manifest: Manifest,
    folder: Path,
    *,
    batch: bool = False,
    commands: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> list[str]:
    """Return the command that opens the core of an unpacked archive.

    ``commands`` run when the core is open; ``arguments`` go to gdb as they are.
    Nothing of the archive is taken for a command: the search path has no folder that gdb would misread.
    """
    search_path = ":".join(filter(is_plain_path, library_folders(manifest, folder)))
    early = [
        "set auto-load off",  # the archive's -gdb.py, .gdbinit, .debug_gdb_scripts
        f"set sysroot {folder}",
        f"set solib-search-path {search_path}",
    ]
    if gdb.version >= _HAS_DEBUGINFOD:
        early.append(f"set debuginfod enabled {'on' if os.environ.get('DEBUGINFOD_URLS') else 'off'}")
    if batch:
        early += ["set pagination off", "set confirm off", "set width 0"]
    executable = executable_in(manifest, folder)
    return [
        gdb.path,
        "-quiet",
        *(["-nx", "-batch"] if batch else []),
        *(part for text in early for part in ("-iex", text)),
        *(part for text in commands for part in ("-ex", text)),
        *arguments,
        *([str(executable)] if executable else []),
        f"--core={folder / 'core'}",
    ]
