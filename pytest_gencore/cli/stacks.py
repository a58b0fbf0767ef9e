"""``gencore stacks``: the stacks of all threads, with the best tool that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pytest_gencore.cli.gdb import executable_in, is_of_linux, stack_commands
from pytest_gencore.cli.libraries import add_libraries
from pytest_gencore.cli.options import archive_argument, examples, library_path_option
from pytest_gencore.cli.output import echo_json, echo_text, list_said, note
from pytest_gencore.cli.pystack_text import arrange_threads
from pytest_gencore.cli.python_commands import find_on_machine
from pytest_gencore.cli.readers import Printed, run_gdb, run_pystack
from pytest_gencore.cli.sealed import identity_option, read_given
from pytest_gencore.cli.tools import Tool, describe_missing_sandbox, find_tool
from pytest_gencore.cli.workspace import find_mismatches, unpacked
from pytest_gencore.document.encode import document_to_json, make_document
from pytest_gencore.texts import describe_event, name_subject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_gencore.archive import Archive
    from pytest_gencore.archive.opening import ArchivePlace

_TOOL_SECONDS: Final = 900
_BEGIN: Final = "@@gencore"


@click.command(
    epilog=examples(
        "gencore stacks core_20261121.225921.9520.001.tar.gz",
        "gencore stacks --native --locals core_20261121.225921.9520.001.tar.gz",
    )
)
@archive_argument
@identity_option
@click.option("--native", is_flag=True, help="Merge in the frames of C, C++ and Rust; all threads.")
@click.option("--locals", "with_locals", is_flag=True, help="Show local variables (pystack only).")
@library_path_option
@click.option(
    "--json", "as_json", is_flag=True, help='Print {"tool": NAME, "text": STACKS, "threads": [...]}.'
)
def stacks(
    archive: ArchivePlace, *, native: bool, with_locals: bool, library_path: tuple[Path, ...], as_json: bool
) -> None:
    """Print the stacks of all threads of ARCHIVE, read from its core.

    With pystack: Python stacks, with --native merged with native ones. Without it: native stacks of gdb, with
    Python's if this machine has CPython's commands for it. Without both, or without a core: the stacks that
    were written at the time of the capture; also instead of gdb's where the executable is missing. Libraries
    that the archive only names are taken from this machine if they have the same build id. Exit status 1 if
    the archive is damaged or has no stacks at all.
    """
    opened = read_given(archive)
    pystack, gdb = find_tool("pystack"), find_tool("gdb")
    found: tuple[str, str] | None = None
    has_core = opened.manifest.core is not None and is_of_linux(opened.manifest)
    if has_core and (pystack or gdb):
        with unpacked(opened, None) as folder:
            opened = add_libraries(opened, folder, library_path)
            for message in find_mismatches(opened, folder):
                note(f"warning: {message}")
            if missing := describe_missing_sandbox():
                note(missing)
            if pystack:
                options = (["--native-all"] if native else []) + (["--locals"] if with_locals else [])
                found = _try(
                    "pystack",
                    lambda: _run_pystack(pystack, opened, folder, options),
                )
            # Without the executable gdb knows no function: what was written says more.
            if not found and gdb and (opened.stacks() is None or executable_in(opened.manifest, folder)):
                if not pystack:
                    note("no pystack could be started: stacks of gdb (pip install pystack)")
                found = _try("gdb", lambda: _run_gdb(gdb, opened, folder))
    if found:
        tool, text = found
        text = "\n".join([*_introduce(opened), "", text])
    else:
        tool, text = _built_in(opened, has_pystack=pystack is not None or not has_core)
    if as_json:
        threads = document_to_json(make_document(opened))["threads"]
        echo_json({"tool": tool, "text": text, "threads": threads})
    else:
        echo_text(text)


def _introduce(archive: Archive) -> list[str]:
    manifest = archive.manifest
    subject = name_subject(manifest.nodeid, manifest.place, "no test")
    event = describe_event(manifest.trigger.kind, subject, is_child=manifest.child_of is not None)
    return [*archive.diagnosis(), *list_said(manifest), f"{event}, process {manifest.pid}"]


def _try(name: str, read: Callable[[], Printed]) -> tuple[str, str] | None:
    status, output, errors = read()
    if status == 0 and output.strip():
        return name, output
    reason = errors.strip().splitlines()
    note(f"{name} could not read the core: {reason[-1] if reason else f'status {status}'}")
    return None


def _run_pystack(pystack: Tool, archive: Archive, folder: Path, options: list[str]) -> Printed:
    printed = run_pystack(pystack, archive.manifest, folder, options, seconds=_TOOL_SECONDS)
    return printed._replace(output=arrange_threads(printed.output, archive.manifest, archive.stacks()))


def _run_gdb(gdb: Tool, archive: Archive, folder: Path) -> Printed:
    script = find_on_machine(archive.manifest)
    commands = [f"echo {_BEGIN}\\n", *stack_commands(script, folder)]
    status, output, errors = run_gdb(gdb, archive.manifest, folder, commands, script, seconds=_TOOL_SECONDS)
    return Printed(status, output.partition(f"{_BEGIN}\n")[2].lstrip("\n"), errors)


def _built_in(archive: Archive, *, has_pystack: bool) -> tuple[str, str]:
    text = archive.stacks()
    hint = "" if has_pystack else "; for more: pip install pystack"
    if text is None:
        message = f"the archive holds no stacks{hint}"
        raise click.ClickException(message)
    note(f"stacks as they were written at the time of the capture{hint}")
    return "stacks.txt", text
