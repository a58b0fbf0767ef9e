"""The debuggers of this machine: where they are, which version, and running them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import click

from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES: Final = ("gdb", "lldb", "pystack", "eu-stack")
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_VERSION_SECONDS: Final = 20
_PRINTED_LINE_LIMIT: Final = 64 << 10


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


def find_tool(name: str) -> Tool | None:
    """Find a program beside this Python or on PATH; None if there is none that starts."""
    here = str(Path(sys.executable).parent) if sys.executable else ""
    path = shutil.which(name, path=here) or shutil.which(name)
    return None if path is None else describe_tool(name, path)


def describe_tool(name: str, path: str) -> Tool | None:
    """Ask a program for its version; None if it cannot be started."""
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


def run_tool(command: Sequence[str], *, timeout: float) -> tuple[int, str, str]:
    """Run a program to its end; return status, output, errors. A program that takes too long gives -9."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -9, "", f"{command[0]} was not finished after {timeout:.0f} s"
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


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
