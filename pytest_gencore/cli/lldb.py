"""How lldb is started on an unpacked archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gencore.cli.gdb import executable_in, library_folders
from pytest_gencore.texts import is_plain_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gencore.archive import Manifest
    from pytest_gencore.cli.tools import Tool


def lldb_command(
    lldb: Tool, manifest: Manifest, folder: Path, *, batch: bool = False, arguments: Sequence[str] = ()
) -> list[str]:
    """Return the command that opens the core of an unpacked archive, without running scripts of it.

    lldb makes commands of its options, too, and evaluates what is between backticks in each.
    """
    early = [
        "settings set target.load-script-from-symbol-file false",
        "settings set target.load-cwd-lldbinit false",
        *(_in_folder(folder) if is_plain_path(str(folder)) else []),
        *(
            f'settings append target.exec-search-paths "{path}"'
            for path in filter(is_plain_path, library_folders(manifest, folder))
        ),
    ]
    executable = executable_in(manifest, folder)
    return [
        lldb.path,
        *(["--no-lldbinit", "--batch"] if batch else []),
        *(part for text in early for part in ("--one-line-before-file", text)),
        *(["--one-line", "thread backtrace all"] if batch and not arguments else []),
        *arguments,
        *(["--file", str(executable)] if executable and is_plain_path(str(executable)) else []),
        "--core",
        str(folder / "core"),
    ]


def _in_folder(folder: Path) -> list[str]:
    """Return the commands without which lldb takes this machine's files wherever such a path exists here."""
    return [
        f'platform select remote-linux --sysroot "{folder}"',
        f'settings set target.source-map / "{folder}"',
    ]
