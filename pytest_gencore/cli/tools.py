"""The debuggers of this machine: where they are, which version, and running them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from pytest_gencore.sandbox.bounded import run_bounded
from pytest_gencore.sandbox.bubblewrap import find_bubblewrap, sandboxed
from pytest_gencore.sandbox.landlock import has_landlock, landlocked
from pytest_gencore.sandbox.limits import Limits, half_of_memory, limited
from pytest_gencore.sandbox.paths import LINKS, SYSTEM, needed_paths
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES: Final = ("gdb", "lldb", "pystack", "eu-stack")
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_VERSION_SECONDS: Final = 20
_PRINTED_LINE_LIMIT: Final = 64 << 10
_OUTPUT_LIMIT: Final = 64 << 20
_KEPT_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH")
"""Not DEBUGINFOD_URLS: what a core names would be asked for on the network."""
_ENVIRONMENT: Final = {
    "NO_COLOR": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONIOENCODING": "utf-8:backslashreplace",
    "PYTHONUTF8": "1",
}


@dataclass(frozen=True, slots=True)
class Tool:
    """A program of this machine that can read cores."""

    name: str
    path: str
    version: tuple[int, ...]
    """Empty if the program does not say."""

    @property
    def version_text(self) -> str:
        """The version with dots."""
        return ".".join(map(str, self.version)) or "unknown version"


def find_path(name: str) -> str | None:
    """Find a program beside this Python or on PATH."""
    here = str(Path(sys.executable).parent) if sys.executable else ""
    return shutil.which(name, path=here) or shutil.which(name)


def find_tool(name: str) -> Tool | None:
    """Find a program beside this Python or on PATH; None if there is none that starts."""
    path = find_path(name)
    return None if path is None else describe_tool(name, path)


def describe_tool(name: str, path: str) -> Tool | None:
    """Ask a program for its version; None if it cannot be started."""
    path = os.path.abspath(shutil.which(path) or path)  # noqa: PTH100 - a str for a command
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    numbers = _VERSION.findall(done.stdout.decode(errors="replace").partition("\n")[0])
    return Tool(name, path, tuple(map(int, numbers[-1].split("."))) if numbers else ())


def run_confined(
    command: Sequence[str], *, folder: Path, programs: Sequence[str], files: Sequence[str] = (), seconds: int
) -> tuple[int, str, str]:
    """Run a program on an unpacked archive, in a sandbox if there is one; return status, output, errors.

    ``programs`` and ``files`` as for ``needed_paths``. A program that is stopped has the status -9.
    """
    limits = Limits(memory=half_of_memory(), cpu_seconds=2 * seconds, file_size=0)
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    try:
        done = run_bounded(
            limited(in_sandbox(command, folder=folder, programs=programs, files=files), limits),
            seconds=seconds,
            output_limit=_OUTPUT_LIMIT,
            environment={**kept, **_ENVIRONMENT},
            directory="/",
        )
    except OSError as error:
        return -9, "", f"cannot be started: {error.strerror}"
    errors = {
        "": done.errors.decode(errors="replace"),
        "time": f"it was not finished after {format_duration(seconds)}",
        "output": f"it printed more than {format_size(_OUTPUT_LIMIT)}",
    }
    return done.status, done.output.decode(errors="replace"), errors[done.stopped]


def in_sandbox(
    command: Sequence[str], *, folder: Path, programs: Sequence[str], files: Sequence[str] = ()
) -> list[str]:
    """Return the command that runs a command in a sandbox; else by Landlock; itself where that is not either.

    ``programs`` and ``files`` as for ``needed_paths``.
    """
    paths = needed_paths(str(folder), programs, files)
    if bubblewrap := find_bubblewrap():
        return sandboxed(bubblewrap, command, folder=str(folder), paths=paths)
    return landlocked(command, [*SYSTEM, *LINKS, *paths]) if has_landlock() else list(command)


def describe_missing_sandbox() -> str:
    """Return what protects if it is not a sandbox, and what would help; empty if it is one."""
    if find_bubblewrap() is not None:
        return ""
    limits = "limits and Landlock" if has_landlock() else "limits"
    if shutil.which("bwrap"):
        return f"read under {limits}, but in no sandbox: bubblewrap cannot make one here"
    return f"read under {limits}, but in no sandbox: the package bubblewrap would give one"


def run_filtered(command: Sequence[str]) -> int:
    """Run a program that reads no input; print what it prints, harmless, while it runs. Return its status."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        errors = threading.Thread(target=_print_lines, args=(process.stderr,), kwargs={"err": True})
        errors.start()
        try:
            _print_lines(process.stdout, err=False)
            errors.join()
        except BaseException:
            process.kill()
            raise
        return process.wait()


def _print_lines(stream: IO[bytes], *, err: bool) -> None:
    while line := stream.readline(_PRINTED_LINE_LIMIT):
        click.echo(escape_unprintable(line.decode(errors="replace").removesuffix("\n"), keep="\t"), err=err)
