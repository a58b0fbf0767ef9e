"""How gdb is started on an unpacked archive: with its files and no others, and without running its scripts.

See "Auto-loading" and "Commands to Specify Files" in the gdb manual.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from pytest_gencore.archive.names import member_of
from pytest_gencore.sandbox.pystack_command import SOURCES_SCRIPT
from pytest_gencore.texts import is_plain_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gencore.archive import Manifest
    from pytest_gencore.cli.tools import Tool

_HAS_DEBUGINFOD: Final = (12,)
"""The first version with ``set debuginfod``, besides 11 without its questions."""
_CAN_KEEP_SOURCES_CLOSED: Final = (12, 1)
_SPECIAL: Final = re.compile(r"""[\s"'\\]""")


def is_of_linux(manifest: Manifest) -> bool:
    """Whether its core is one of Linux: readers here know no other, nor the libraries that belong to it."""
    return manifest.versions.kernel.startswith("Linux")


def script_command(script: Path, folder: Path) -> str:
    """Return the command that loads CPython's commands, which then show the archive's source lines."""
    run = f"runpy.run_path({SOURCES_SCRIPT!a})['run_gdb_script']"
    return f"python import runpy; {run}({str(script)!a}, {str(folder)!a})"


def stack_commands(script: Path | None, folder: Path) -> list[str]:
    """Return the commands that print all native stacks, and all Python stacks if there is CPython's script.

    The script comes second because it also changes how native stacks show their arguments.
    """
    commands = ["thread apply all backtrace"]
    return [*commands, script_command(script, folder), "thread apply all py-bt"] if script else commands


def library_folders(manifest: Manifest, folder: Path) -> list[str]:
    """Return the folders of the libraries in an unpacked archive."""
    parents = {
        PurePosixPath(library.path.lstrip("/")).parent for library in manifest.libraries if library.included
    }
    return sorted(str(folder / parent) for parent in parents)


def executable_in(manifest: Manifest, folder: Path) -> Path | None:
    """Return the executable of an unpacked archive, None if it is not in it."""
    if manifest.executable is None:
        return None
    path = folder / member_of(manifest.executable)
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
        f"set substitute-path / {_SPECIAL.sub(lambda found: chr(92) + found[0], str(folder))}",
    ]
    if batch and not arguments and gdb.version >= _CAN_KEEP_SOURCES_CLOSED:
        early.append("set source open off")  # stacks have no source lines; the core names any file
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
