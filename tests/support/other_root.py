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
ENTER = """
mount -t proc proc "$0/proc" && mkdir -p "$0/dev/shm" && mount -t tmpfs tmpfs "$0/dev/shm" &&
exec chroot "$0" env -i LANG=C.UTF-8 "$@"
"""
"""In new namespaces: the mounts end with the process, and no process of this machine is seen."""


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


def make_root(folder: Path, release: str, packages: str) -> OtherRoot:
    """Make the root file system with a release and packages, unless it is there."""
    done = folder / ".made"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        bootstrap = ["debootstrap", "--variant=minbase", f"--include={packages}", release, str(folder)]
        # What debootstrap mounts and starts, and leaves if it fails, ends with its namespaces.
        run(*NAMESPACES, "--mount-proc", *bootstrap, *find_mirror(), timeout=1500)
        done.touch()
    return OtherRoot(folder)


def find_mirror() -> list[str]:
    """Return where this machine gets its own release from, if it is of the same distribution."""
    release = platform.freedesktop_os_release()
    if release.get("ID") != "debian":
        return []
    wanted = ["Created-By: Packages", f"Codename: {release.get('VERSION_CODENAME')}", "Origin: Debian"]
    return run("apt-get", "indextargets", "--format", "$(SITE)", *wanted).split()[:1]


def download(folder: Path, version: str, *requirements: str) -> None:
    """Get wheels for another Python, with all that they need: here pip knows its index and certificates."""
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(36, 16, -1)]
    tags = ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    tags += [f"--platform={name}" for name in (*platforms, f"manylinux2014_{machine}", f"linux_{machine}")]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    run(*pip, *tags, *requirements, timeout=600)
