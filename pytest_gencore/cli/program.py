"""The group of all subcommands, and how errors of any of them end."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from pytest_gencore.cli.options import ARCHIVE_KEY
from pytest_gencore.errors import ArchiveError, GencoreError
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.version import __version__

if TYPE_CHECKING:
    from types import FrameType


_COMMANDS: Final = {
    "demo": "demo:demo",
    "check": "check:check",
    "list": "listing:list_archives",
    "fetch": "fetch:fetch",
    "show": "show:show",
    "stacks": "stacks:stacks",
    "diagnose": "diagnose:diagnose",
    "diff": "diff:diff",
    "report": "report:report",
    "debug": "debug:debug",
    "unpack": "unpack:unpack",
    "wait": "wait:wait",
    "prune": "prune:prune",
}
"""Module and attribute of each; imported when asked for, because ``list`` and ``show`` are to be fast."""


class Program(click.Group):
    """A group whose expected errors are one line and exit status 1."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the subcommand of this name."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"pytest_gencore.cli.{module}"), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; turn errors that users can have into click's."""
        try:
            return super().invoke(ctx)
        except GencoreError as error:
            archive = ctx.meta.get(ARCHIVE_KEY)
            text = (
                f"{archive}: {error}"
                if archive is not None and isinstance(error, ArchiveError)
                else str(error)
            )
            raise click.ClickException(escape_unprintable(text)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            where = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
            raise click.ClickException(escape_unprintable(f"{error.strerror or error}{where}")) from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the subcommands, in the order of the documentation."""
        return list(_COMMANDS)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gencore")
def program() -> None:
    """Look at, open and tidy up core archives of pytest-gencore.

    Exit status: 0 if all went well, 1 if the answer is no or something failed, 2 for wrong usage.
    """


def run() -> NoReturn:
    """Run the command line and exit; signals that end it let temporary folders be removed first."""
    ends = [signal.SIGTERM, *([signal.SIGHUP] if sys.platform != "win32" else [])]
    for number in ends:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _on_end)
    program.main(prog_name="gencore", color=False if os.environ.get("NO_COLOR") else None)
    sys.exit(0)


def _on_end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
