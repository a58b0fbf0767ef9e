"""The script ``open.gdb`` of an archive."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gencore.collector.files.libraries import Library


def format_debugger_commands(executable: str, libraries: list[Library]) -> str:
    """Return a gdb script that opens the core with the files of this archive and no others."""
    folders = sorted(
        {str(PurePosixPath(library.path).parent).lstrip("/") for library in libraries if library.source}
    )
    return "\n".join(
        (
            "# Run in this folder: gdb -x open.gdb",
            "set auto-load off",  # no script of these files
            "set sysroot .",
            "set substitute-path / .",  # sources of the archive
            f"set solib-search-path {':'.join(folders)}",
            f"file .{executable}",
            "core-file core",
            "",
        )
    )
