"""What of this machine matters to a capture: one function a fact, each with what would help.

Facts are those of the process that asks, which is started as a test run would be.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pytest_gencore.cli import containers
from pytest_gencore.cli.tools import NAMES, find_path, find_tool
from pytest_gencore.corefile.machines import MACHINES, machine_for
from pytest_gencore.installed import has_extension
from pytest_gencore.machine.disk import Disk
from pytest_gencore.machine.memory import largest_rss, read_headroom
from pytest_gencore.machine.process import why_no_descriptors
from pytest_gencore.run.pinned import describe_exposure, why_not_private
from pytest_gencore.systems import find_library, find_system, has_cores
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

State = Literal["ok", "note", "problem"]

_ARCHIVE_SIZE: Final = 256 << 20
_PROCESS_SIZE: Final = 256 << 20
"""What a test process, and its archive, may well take."""
_FOR_METHOD_KERNEL: Final = "matters to --gencore-method=kernel only"
NOT_BUILT: Final = "not built: the portable text backend, tried with its Python on Linux only"
_PROC_FILES: Final = ("maps", "smaps", "pagemap", "auxv")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine."""

    name: str
    value: str
    state: State = "ok"
    """``note``: captures work, but differently; ``problem``: they do not."""
    advice: str = ""
    """What it means or what would help."""


def examine(directory: Path) -> Iterator[Finding]:
    """Yield all facts; ``directory`` is where archives would go."""
    yield _python()
    yield _kernel()
    yield _extension()
    if not has_extension():
        yield from _cores()
        yield _disk(directory)
        yield _directory(directory)
        return
    yield _proc()
    yield _core_pattern()
    yield _core_limits()
    yield from _restrictions()
    yield _container()
    yield _disk(directory)
    yield _directory(directory)
    yield _memory()
    yield from (_tool(name) for name in NAMES)


def _python() -> Finding:
    name, version = platform.python_implementation(), platform.python_version()
    if name != "CPython":
        return Finding("python", f"{name} {version}", "note", "only CPython was tried")
    return Finding("python", f"{name} {version}, {sys.executable}")


def _kernel() -> Finding:
    value = f"{platform.system()} {platform.release()} {platform.machine()}"
    if sys.platform != "linux":
        return Finding("kernel", value, "note", "this was run on Linux only, never on this system")
    if not has_extension():
        return Finding("kernel", value)
    if machine_for(platform.machine()) is None:
        known = " or ".join(machine.name for machine in MACHINES)
        return Finding("kernel", value, "problem", f"captures need {known}")
    reason = why_no_descriptors()
    if reason:
        return Finding("kernel", f"{value}: {reason}", "problem", "captures need Linux 5.3 or newer")
    return Finding("kernel", value)


def _extension() -> Finding:
    if has_extension():
        files = sorted((Path(__file__).parents[1] / "capture").glob("_native*.so"))
        return Finding("extension", files[0].name)
    advice = "archives of type text, of failures, and of hangs that leave the GIL free; no core"
    if has_cores():
        advice = "archives of failures, and of hangs that leave the GIL free"
    if sys.platform == "linux":
        advice += "; with a C compiler and the Python headers: pip install --force-reinstall"
    return Finding("extension", NOT_BUILT, "note", advice)


def _cores() -> Iterator[Finding]:
    """Tell what makes cores without the extension, and how far that was tried."""
    system = find_system()
    if system is None:
        return
    if find_library(system) is None:
        reason = f"none: the C part of method {system.method} was not built"
        yield Finding("cores", reason, "note", system.help_text)
        return
    yield Finding("cores", f"method {system.method}: {system.state}", "note", "--selftest tries it")


def _proc() -> Finding:
    unreadable = [name for name in _PROC_FILES if not os.access(f"/proc/self/{name}", os.R_OK)]
    if unreadable:
        path = Path("/proc/self", unreadable[0])
        if not path.exists():
            advice = "mount /proc" if not Path("/proc/self").exists() else "the kernel does not have it"
            return Finding("proc", f"{path} is missing", "problem", advice)
        return Finding("proc", f"{path} cannot be read", "problem")
    return Finding("proc", "mounted")


def _core_pattern() -> Finding:
    """Tell the setting only: whether the kernel would write a file, method ``kernel`` finds out itself."""
    try:
        text = Path("/proc/sys/kernel/core_pattern").read_text(errors="replace").removesuffix("\n")
    except OSError as error:
        text = error.strerror or str(error)
    return Finding("core_pattern", f"{text or '(empty)'}: {_FOR_METHOD_KERNEL}")


def _core_limits() -> Finding:
    import resource  # Windows has none

    limits = resource.getrlimit(resource.RLIMIT_CORE)
    soft, hard = ("unlimited" if limit == resource.RLIM_INFINITY else format_size(limit) for limit in limits)
    return Finding("core limit", f"soft {soft}, hard {hard}: {_FOR_METHOD_KERNEL}")


def _restrictions() -> Iterator[Finding]:
    unneeded = "captures use no ptrace, nothing has to be changed"
    yama = _read("/proc/sys/kernel/yama/ptrace_scope")
    yield Finding("yama", f"ptrace_scope {yama}: {unneeded}" if yama else "not there")
    status = _read("/proc/self/status")
    match = re.search(r"^Seccomp:\s*(\d)", status, re.MULTILINE)
    mode = {"0": "no filter", "1": "strict", "2": "a filter"}.get(match.group(1) if match else "", "unknown")
    allows = "it must allow pidfd_open and memfd_create, which --selftest tries"
    yield Finding("seccomp", f"{mode}: {allows}" if mode == "a filter" else mode)
    if _read("/proc/sys/vm/overcommit_memory") == "2":
        advice = "forking a large process can be refused: then captures of it fail"
        yield Finding("overcommit", "vm.overcommit_memory is 2", "note", advice)


def _container() -> Finding:
    name = containers.find_container()
    if name == "gVisor":
        advice = "captures were refused there, by a release of July 2024: --selftest tells whether they work"
        return Finding("container", name, "note", advice)
    if os.getpid() == 1:
        return Finding(
            "container", "this is PID 1", "note", "start the container with an init: docker run --init"
        )
    return Finding("container", name or "none seen")


def _disk(directory: Path) -> Finding:
    """Judge as a collector does."""
    place = _existing(directory)
    space = Disk(place, directory).measure()
    if not place.is_dir() or not os.access(
        place, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids
    ):
        advice = "choose another directory: --gencore-dir"
        return Finding("disk", f"{place} cannot be written", "problem", advice)
    if space is None:
        return Finding("disk", f"the file system of {place} does not tell what is free", "note")
    value = f"{directory} has {format_size(space.free)} free, captures keep {format_size(space.reserve)} free"
    if space.spare < 0:
        return Finding("disk", value, "problem", "free space or choose another directory: --gencore-dir")
    if space.spare < _ARCHIVE_SIZE:
        advice = "an archive takes 20 MiB and 10 to 50 % of the memory of the process: it may not fit"
        return Finding("disk", value, "note", advice)
    return Finding("disk", value)


def _directory(directory: Path) -> Finding:
    """Make and remove a folder: some file systems give every file one owner, or one mode."""
    place = _existing(directory)
    try:
        folder = Path(tempfile.mkdtemp(prefix=".check-", dir=place))
    except OSError as error:
        advice = "choose another directory: --gencore-dir"
        value = f"no folder can be made in {place}: {error.strerror}"
        return Finding("directory", value, "problem", advice)
    try:
        reason = why_not_private(folder.lstat())
    finally:
        folder.rmdir()
    if reason:
        advice = "choose another directory: --gencore-dir"
        return Finding("directory", f"a new folder in {place} is not private: {reason}", "problem", advice)
    exposure = describe_exposure(directory)
    if exposure:
        advice = "choose one that only this user can write to: --gencore-dir"
        return Finding("directory", f"others can replace the archives in it: {exposure}", "note", advice)
    return Finding("directory", f"private folders can be made in {place}")


def _existing(directory: Path) -> Path:
    """Return the directory, or the nearest one above it that exists."""
    place = directory.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def _memory() -> Finding:
    """Judge as a capture does."""
    headroom = read_headroom()
    if headroom is None:
        return Finding("memory", "unknown", "note", "captures do not check it")
    value = f"{format_size(headroom)} can still be taken before a process is killed"
    largest = largest_rss(headroom)
    if largest is None:
        return Finding("memory", value, "problem", "too little for any capture")
    if largest < _PROCESS_SIZE:
        advice = f"processes of more than {format_size(largest)} stand still until their snapshot is read"
        return Finding("memory", value, "note", advice)
    return Finding("memory", value)


def _tool(name: str) -> Finding:
    tool = find_tool(name)
    if tool is not None:
        return Finding(name, f"{tool.version_text}, {tool.path}")
    advice = {
        "gdb": "only needed to open cores: gencore debug",
        "pystack": "only needed to read stacks from cores: pip install pystack",
    }
    path = find_path(name)
    value = "not found" if path is None else f"{path} does not start"
    return Finding(name, value, "note", advice.get(name, ""))


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
