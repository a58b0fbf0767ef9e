"""pystack and gdb, run on an unpacked archive: confined, with its files and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.cli.gdb import executable_in, gdb_command
from pytest_gencore.cli.tools import Tool, run_confined
from pytest_gencore.sandbox.pystack_command import pystack_command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gencore.archive import Manifest


class Printed(NamedTuple):
    """How a reader ended, and what it printed."""

    status: int
    output: str
    errors: str


def run_pystack(
    pystack: Tool, manifest: Manifest, folder: Path, options: Sequence[str] = (), *, seconds: int
) -> Printed:
    """Run pystack on the core; the source lines are those of the archive."""
    executable = executable_in(manifest, folder)
    files = [str(folder / "core"), *([str(executable)] if executable else [])]
    arguments = ["--no-color", "core", *files, "--lib-search-root", str(folder), *options]
    command = pystack_command(pystack.path, str(folder), arguments)
    if command is None:
        return Printed(
            -1, "", f"{pystack.path} is not a Python script, so it cannot be confined to the archive's files"
        )
    programs = [command[0], pystack.path]
    return Printed(*run_confined(command, folder=folder, programs=programs, seconds=seconds))


def run_gdb(
    gdb: Tool,
    manifest: Manifest,
    folder: Path,
    commands: Sequence[str],
    script: Path | None = None,
    *,
    seconds: int,
) -> Printed:
    """Run commands of gdb on the core; ``script`` is CPython's, if they load it."""
    command = gdb_command(gdb, manifest, folder, batch=True, commands=commands)
    files = [str(script)] if script else []
    return Printed(*run_confined(command, folder=folder, programs=[gdb.path], files=files, seconds=seconds))
