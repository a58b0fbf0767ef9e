"""The script ``open.gdb`` of an archive."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_gencore.texts import is_plain_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_gencore.collector.files.libraries import Library

_QUOTED_BY_GDB = re.compile(r"([\s'])")


def format_debugger_commands(executable: str, libraries: Iterable[Library], notices: list[str]) -> str:
    """Return a gdb script that opens the core with the files of this archive and no others.

    A test may choose the names of folders and files, and gdb runs what stands on a line of its own: paths
    that it would misread do not get into the script, and ``notices`` gets a line.
    """
    included = [library for library in libraries if library.source]
    folders = sorted({str(PurePosixPath(library.path).parent).lstrip("/") for library in included})
    plain = [f"./{folder}" for folder in folders if is_plain_path(folder)]
    if len(plain) < len(folders):
        notices.append(
            "folders of libraries that open.gdb lacks, as gdb would misread their paths: "
            f"{len(folders) - len(plain)}"
        )
    opens_executable = "# the executable cannot be named here"
    if is_plain_path(executable) and any(executable in (lib.path, *lib.aliases) for lib in included):
        opens_executable = "file ." + _QUOTED_BY_GDB.sub(r"\\\1", executable)
    else:
        notices.append("open.gdb lacks the executable: it is not included, or gdb would misread its path")
    return "\n".join(
        (
            "# Run in this folder: gdb -x open.gdb",
            "set auto-load off",  # no script of these files
            "set sysroot .",
            "set substitute-path / .",  # sources of the archive
            f"set solib-search-path {':'.join(plain)}",
            opens_executable,
            "core-file core",
            "",
        )
    )
