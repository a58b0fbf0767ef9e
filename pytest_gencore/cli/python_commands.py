"""CPython's commands for gdb (``py-bt``, ``py-list``, ...): a script that comes with each version of CPython.

It is ``Tools/gdb/libpython.py`` of CPython's sources, installed as ``NAME-gdb.py`` beside the executable or
the library, or below gdb's own folders. That of the archive is run only if its user trusts the archive.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.archive import Manifest

_VERSION = re.compile(r"(\d{1,2})\.(\d{1,3})(?=\D|$)")
_SYSTEM_FOLDERS: Final = ("/usr/share/gdb/auto-load", "/usr/local/share/gdb/auto-load", "/usr/lib/debug")
_AUTO_LOAD: Final = "usr/share/gdb/auto-load"
_SCRIPT_LIMIT: Final = 1 << 20


def find_in_archive(manifest: Manifest, folder: Path) -> Path | None:
    """Return the script of the executable or libpython of an unpacked archive; do not trust it.

    It is beside them, or under that path below gdb's own folder, as distributions have it.
    """
    for library in manifest.libraries:
        path = Path(library.path.lstrip("/"))
        if library.included and (library.path == manifest.executable or path.name.startswith("libpython")):
            for top in (folder, folder / _AUTO_LOAD):
                for script in sorted((top / path.parent).glob("*python*-gdb.py")):
                    return script
    return None


def find_on_machine(manifest: Manifest) -> Path | None:
    """Return the script of this machine for the version of Python; None if there is none.

    Only what belongs to root or to this user and what others cannot change; no path comes from the archive.
    """
    match = _VERSION.match(manifest.versions.python.version)
    if match is None or manifest.versions.python.implementation != "CPython":
        return None
    version = f"{match.group(1)}.{match.group(2)}"
    return next((path for path in _candidates(version) if _is_script(path)), None)


def _candidates(version: str) -> Iterator[Path]:
    pattern = f"*python{version}*-gdb.py"
    for prefix in _prefixes(version):
        yield from sorted((prefix / "bin").glob(pattern))
        for folder in ("lib", "lib64", "share/gdb/auto-load"):
            yield from sorted((prefix / folder).glob(pattern))
        yield from sorted(prefix.glob(f"share/gdb/libpython{version}*.py"))
    for top in _SYSTEM_FOLDERS:
        yield from sorted(Path(top).rglob(pattern))


def _prefixes(version: str) -> Iterator[Path]:
    """Yield where Pythons of this version are installed."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        yield Path(sys.base_prefix)
    for folder in os.get_exec_path():
        program = shutil.which(f"python{version}", path=folder) if folder.startswith("/") else None
        if program is not None:
            yield Path(program).resolve().parent.parent
    for root in (os.environ.get("PYENV_ROOT"), os.path.expanduser("~/.pyenv")):  # noqa: PTH111 - raises nothing
        if root:
            yield from sorted(Path(root, "versions").glob(f"{version}.*"), reverse=True)


def _is_script(path: Path) -> bool:
    """Tell whether it is that script, and nobody else's: a wrapper of the same name may be a shell script."""
    try:
        status = path.stat()
        is_ours = status.st_uid in {0, os.geteuid()} and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not is_ours or not stat.S_ISREG(status.st_mode) or status.st_size > _SCRIPT_LIMIT:
            return False
        return b"import gdb" in path.read_bytes()
    except OSError:
        return False
