"""How lldb is started on an unpacked archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_gencore.cli.gdb import executable_in, library_folders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gencore.archive import Manifest
    from pytest_gencore.cli.tools import Tool

_SPECIAL: Final = frozenset('"\\`')
"""What has a meaning between quotes; backticks evaluate an expression."""


def lldb_command(
    lldb: Tool, manifest: Manifest, folder: Path, *, batch: bool = False, arguments: Sequence[str] = ()
) -> list[str]:
    """Return the command that opens the core of an unpacked archive, without running scripts of it."""
    early = [
        "settings set target.load-script-from-symbol-file false",
        "settings set target.load-cwd-lldbinit false",
        # else lldb takes this machine's library wherever the path of one of the archive's exists here
        f'platform select remote-linux --sysroot "{folder}"',
        f'settings set target.source-map / "{folder}"',
        *(
            f'settings append target.exec-search-paths "{path}"'
            for path in library_folders(manifest, folder)
            if not _SPECIAL & set(path)
        ),
    ]
    executable = executable_in(manifest, folder)
    return [
        lldb.path,
        *(["--no-lldbinit", "--batch"] if batch else []),
        *(part for text in early for part in ("--one-line-before-file", text)),
        *(["--one-line", "thread backtrace all"] if batch and not arguments else []),
        *arguments,
        *(["--file", str(executable)] if executable else []),
        "--core",
        str(folder / "core"),
    ]
