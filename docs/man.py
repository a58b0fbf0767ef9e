"""Make the man page of the command from its help texts.

python docs/man.py > gencore.1
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

import click

from pytest_gencore.cli.program import program
from pytest_gencore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "gencore"


def escape(text: str) -> str:
    """Return a line of text for roff, see groff(7): neither an escape sequence nor a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def make_page() -> Iterator[str]:
    """Yield the lines of the page: all subcommands are sections of it."""
    with click.Context(program, info_name=NAME, help_option_names=["-h", "--help"]) as context:
        title, *about = paragraphs(program.help)
        yield f'.TH {NAME.upper()} 1 "" "pytest-gencore {__version__}"'
        yield from (".SH NAME", f"{NAME} \\- {escape(title.rstrip('.'))}")
        yield from (".SH SYNOPSIS", f".B {NAME}", escape("COMMAND [OPTIONS] [ARGUMENTS]"))
        yield ".SH DESCRIPTION"
        for text in about:
            yield from (".PP", escape(text))
        yield from options(program, context)
        yield ".SH COMMANDS"
        for name in program.list_commands(context):
            command = program.get_command(context, name)
            assert command is not None
            context_of_it = click.Context(command, info_name=name, parent=context, help_option_names=[])
            yield from section(command, context_of_it)


def section(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the lines about a subcommand."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f'.SS "{escape(usage)}"'
    for text in paragraphs(command.help):
        yield from (".PP", escape(text))
    yield from options(command, context)
    _, *examples = (command.epilog or "\b\nExamples:").replace("\b\n", "").splitlines()
    if examples:
        yield from (
            ".PP",
            "Examples:",
            ".PP",
            ".nf",
            ".RS",
            *map(escape, map(str.strip, examples)),
            ".RE",
            ".fi",
        )


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the lines about the options of a command."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:  # an argument has none: the text above says what it is
            yield from (".TP", f".B {escape(record[0])}", escape(record[1]))


def paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a help text, each in one line."""
    return [" ".join(part.split()) for part in inspect.cleandoc(text or "").split("\n\n")]


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in make_page())
