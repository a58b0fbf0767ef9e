"""``gencore debug``: a debugger on the core, with the archive's files."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from pytest_gencore.cli.gdb import gdb_command, is_of_linux, library_folders, script_command, stack_commands
from pytest_gencore.cli.libraries import add_libraries
from pytest_gencore.cli.lldb import lldb_command
from pytest_gencore.cli.options import archive_argument, examples, library_path_option
from pytest_gencore.cli.output import note
from pytest_gencore.cli.python_commands import find_in_archive, find_on_machine
from pytest_gencore.cli.sealed import identity_option, read_given
from pytest_gencore.cli.tools import Tool, describe_tool, find_tool, in_sandbox, run_filtered
from pytest_gencore.cli.workspace import find_mismatches, unpacked
from pytest_gencore.sandbox.limits import Limits, half_of_memory, limited
from pytest_gencore.texts import describe_event, is_plain_path, name_subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.archive import Archive
    from pytest_gencore.archive.opening import ArchivePlace

_BATCH_CPU_SECONDS: Final = 1800
_HINTS: Final = """\
To begin with:
  info threads                 all threads; * is the current one
  thread apply all backtrace   native stacks of all threads
  thread 2                     go to another thread; up, down: to another frame"""
_PYTHON_HINTS: Final = """\
  thread apply all py-bt       Python stacks of all threads
  py-list, py-locals           source and local variables of the Python frame
  py-up, py-down               to another Python frame"""
_NO_PYTHON_HINTS: Final = """\
  py-bt and the like are not loaded: there is no libpython-gdb script of this Python version here.
  Python stacks without them: gencore stacks ARCHIVE"""


@click.command(
    epilog=examples(
        "gencore debug core_20261121.225921.9520.001.tar.gz",
        "gencore debug core_20261121.225921.9520.001.tar.gz --batch",
        "gencore debug core_20261121.225921.9520.001.tar.gz --batch -- -ex 'info threads'",
    )
)
@archive_argument
@identity_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--batch", is_flag=True, help="Print all stacks, or what ARGUMENTS ask for, and end.")
@click.option("--gdb", "gdb_path", type=click.Path(), help="The gdb to use.  [default: that on PATH]")
@click.option("--lldb", "lldb_path", type=click.Path(), help="Use this lldb.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Unpack there and leave it there.  [default: a temporary folder that is removed]",
)
@library_path_option
@click.option(
    "--trust-archive",
    is_flag=True,
    help="Run the archive's own script of Python's gdb commands. It can do whatever you can.",
)
def debug(
    archive: ArchivePlace,
    arguments: tuple[str, ...],
    *,
    batch: bool,
    gdb_path: str | None,
    lldb_path: str | None,
    directory: Path | None,
    library_path: tuple[Path, ...],
    trust_archive: bool,
) -> None:
    """Unpack ARCHIVE and start gdb on its core, with its executable and libraries.

    The debugger takes the archive's files and not those of this machine, and runs no script of the archive.
    Python's commands (py-bt, py-list, ...) are loaded if this machine has them for that version of Python.
    Libraries that the archive only names are taken from this machine if they have the same build id;
    debuginfod is used if DEBUGINFOD_URLS is set. ARGUMENTS go to the debugger. Exit status 1 if there is no
    debugger, it fails, or the archive is damaged.
    """
    if gdb_path and lldb_path:
        raise click.UsageError("--gdb and --lldb exclude each other")
    debugger = _find_debugger(gdb_path, lldb_path)
    opened = read_given(archive)
    if opened.manifest.core is None:
        raise click.ClickException("the archive holds no core; its stacks: gencore stacks ARCHIVE")
    if not is_of_linux(opened.manifest):
        raise click.ClickException(
            "the core is not one of Linux: gencore unpack ARCHIVE, lldb --core NAME/core"
        )
    with unpacked(opened, directory) as folder:
        opened = add_libraries(opened, folder, library_path)
        for message in find_mismatches(opened, folder):
            note(f"warning: {message}")
        for path in library_folders(opened.manifest, folder):
            if not is_plain_path(path):
                note(f"warning: {path} is not in the debugger's search path: it would misread that")
        script = _find_script(debugger, opened, folder, trust_archive=trust_archive)
        command = _command(debugger, opened, folder, script, batch=batch, arguments=arguments)
        limits = Limits(memory=half_of_memory())
        if batch and not arguments and not os.environ.get("DEBUGINFOD_URLS"):
            files = [str(script)] if script else []
            command = in_sandbox(command, folder=folder, programs=[debugger.path], files=files)
            limits = replace(limits, cpu_seconds=_BATCH_CPU_SECONDS, file_size=0)
        command = limited(command, limits)
        if batch:
            status = run_filtered(command)
        else:
            _greet(opened, folder, debugger, has_commands=script is not None)
            status = _run_interactively(command)
    if status:
        note(f"{debugger.name} ended with status {status}")
        raise SystemExit(1)


def _find_debugger(gdb_path: str | None, lldb_path: str | None) -> Tool:
    name, path = ("lldb", lldb_path) if lldb_path else ("gdb", gdb_path)
    tool = describe_tool(name, path) if path else find_tool("gdb") or find_tool("lldb")
    if tool is None:
        what = f"{path} cannot be started" if path else "neither gdb nor lldb could be started"
        message = f"{what}; the Python stacks need none: gencore stacks"
        raise click.ClickException(message)
    return tool


def _find_script(debugger: Tool, archive: Archive, folder: Path, *, trust_archive: bool) -> Path | None:
    own = find_in_archive(archive.manifest, folder)
    if own is not None and trust_archive:
        return own
    found = find_on_machine(archive.manifest)
    if own is not None and found is None and debugger.name == "gdb":
        note("the archive has Python's gdb commands: --trust-archive runs them")
    return found


def _command(
    debugger: Tool,
    archive: Archive,
    folder: Path,
    script: Path | None,
    *,
    batch: bool,
    arguments: Sequence[str],
) -> list[str]:
    if debugger.name == "lldb":
        return lldb_command(debugger, archive.manifest, folder, batch=batch, arguments=arguments)
    commands = [script_command(script, folder)] if script else []
    if batch and not arguments:
        commands = ["info threads", *stack_commands(script, folder)]
    return gdb_command(
        debugger,
        archive.manifest,
        folder,
        batch=batch,
        commands=commands,
        arguments=arguments,
    )


def _greet(archive: Archive, folder: Path, debugger: Tool, *, has_commands: bool) -> None:
    manifest = archive.manifest
    what = name_subject(manifest.nodeid, manifest.place, f"process {manifest.pid}")
    event = describe_event(manifest.trigger.kind, what, is_child=manifest.child_of is not None)
    note(f"{event}, {manifest.created}, {len(manifest.threads)} threads")
    note(f"unpacked in {folder}")
    if debugger.name == "gdb":
        click.echo(f"{_HINTS}\n{_PYTHON_HINTS if has_commands else _NO_PYTHON_HINTS}", err=True)


def _run_interactively(command: Sequence[str]) -> int:
    """Run a debugger on this terminal; Ctrl-C is for it, not for us."""
    with subprocess.Popen(command) as process:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise
        finally:
            signal.signal(signal.SIGINT, before)
