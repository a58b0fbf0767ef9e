"""The root file system of another release of the distribution, made with debootstrap.

It has its own C library, gdb, lldb and Python; the project's wheel and pystack are installed there.
"""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wheels import run

if TYPE_CHECKING:
    from pathlib import Path

RELEASES = ("trixie", "bookworm")
"""Of Debian; the first that this machine is not. Both have a Python that the command line runs on."""
PACKAGES = "gdb,lldb,python3,python3-venv"
INSTALLED = "/opt/gencore"
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
ENTER = 'mount -t proc proc "$0/proc" && exec chroot "$0" env -i LANG=C.UTF-8 "$@"'
"""In new namespaces: the mount ends with the process, and no process of this machine is seen."""


@dataclass(frozen=True, slots=True)
class OtherRoot:
    """The root file system."""

    folder: Path

    def run(self, *command: str, timeout: float = 300) -> str:
        """Run a program in it; return what it prints."""
        path = f"PATH={INSTALLED}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return run(*NAMESPACES, "sh", "-c", ENTER, self.folder, path, *command, timeout=timeout)

    def put(self, file: Path) -> str:
        """Copy a file into it; return its path there."""
        shutil.copy(file, self.folder / "tmp")
        return f"/tmp/{file.name}"


def download(wheel: Path, folder: Path, version: str) -> None:
    """Get what the wheel needs on another Python; here, where pip knows its index and certificates."""
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(28, 16, -1)]
    tags = ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    tags += [f"--platform={name}" for name in (*platforms, f"manylinux2014_{machine}", f"linux_{machine}")]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    run(*pip, *tags, f"{wheel}[cli,stacks]", timeout=600)
