"""Files that no process maps and debuggers want: separate debug information, CPython's commands for gdb."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.files.libraries import Library
from pytest_gencore.collector.source.regular_file import open_regular
from pytest_gencore.corefile.elffile import build_id_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FOLDER: Final = "/usr/lib/debug"
_AUTO_LOAD: Final = "/usr/share/gdb/auto-load"
_TOTAL_LIMIT: Final = 256 << 20


def find_debug_files(
    libraries: Iterable[Library], notices: list[str], limit: int = _TOTAL_LIMIT
) -> list[Library]:
    """Return the debug files of stripped libraries that this machine has, found by build id.

    gdb looks for them below its sysroot; elfutils, and so pystack, only in ``.debug`` beside the library:
    there they have a second name. ``notices`` gets a line if there is more than ``limit`` bytes of them.
    """
    found = []
    left_out = 0
    places: dict[str, list[str]] = {}
    for library in libraries:
        if library.source is not None and library.build_id and len(library.build_id) >= 4:
            places.setdefault(library.build_id, []).extend((library.path, *library.aliases))
    for build_id, paths in places.items():
        name = f"{build_id[2:]}.debug"
        path = f"{FOLDER}/.build-id/{build_id[:2]}/{name}"
        try:
            file = open_regular(path)
        except OSError:
            continue
        size = os.fstat(file.fileno()).st_size
        if size > limit or build_id_of(file) != build_id:
            left_out += size > limit
            file.close()
            continue
        limit -= size
        folders = dict.fromkeys(str(PurePosixPath(path).parent) for path in paths)
        aliases = tuple(f"{folder}/.debug/{name}" for folder in folders)
        found.append(Library(path, size, build_id, file, "separate debug information", aliases))
    if left_out:
        notices.append(f"files of separate debug information left out, as they are too large: {left_out}")
    return found


def is_debug_file(library: Library) -> bool:
    """Return whether it comes from ``find_debug_files``: nothing that a process maps."""
    return library.path.startswith(f"{FOLDER}/")


def find_python_scripts(libraries: Iterable[Library]) -> Iterator[str]:
    """Yield where CPython's commands for gdb may be, beside the executable and libpython."""
    for library in libraries:
        if "python" in PurePosixPath(library.path).name and "/lib-dynload/" not in library.path:
            for known in (library.path, *library.aliases):
                yield f"{known}-gdb.py"
                yield f"{_AUTO_LOAD}{known}-gdb.py"
