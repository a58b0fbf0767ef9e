"""Lines of a log that CI systems read as commands: each is one line, at its start."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.ci.captures import Capture

TITLE: Final = "Captured by pytest-gencore"
NOTICES: Final = 10
"""GitHub shows so many annotations of a kind and step."""
_ARTIFACT: Final = "gencore"
"""Name of what Azure and TeamCity keep the archives in."""
_TEXT_LENGTH: Final = 1000
_BLOCK_LENGTH: Final = 64 << 10
_TEAMCITY: Final = {"|": "||", "'": "|'", "[": "|[", "]": "|]", "\n": "|n", "\r": "|r"}
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_PATTERN: Final = frozenset(",*?\n\r")
"""What a path means more than itself with, in TeamCity's lists of artifacts."""


def escape_github(text: str) -> str:
    """Return a message of a workflow command.

    docs.github.com/actions/reference/workflow-commands-for-github-actions; how it is read again says
    ``ActionCommand.cs`` of github.com/actions/runner.
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_github_property(text: str) -> str:
    """Return the value of a property of one."""
    return escape_github(text).replace(":", "%3A").replace(",", "%2C")


def make_notice(text: str) -> str:
    """Return GitHub's command for a notice."""
    return f"::notice title={escape_github_property(TITLE)}::{escape_github(text[:_TEXT_LENGTH])}"


def describe_line(capture: Capture, base: str) -> str:
    """Return what happened, where, and which archive, on one line."""
    where = "" if capture.test in capture.verdict else f": {capture.test}"
    uploaded = f", uploaded: {capture.url}" if capture.url else ""
    return escape_unprintable(f"{capture.verdict}{where} ({capture.show_path(base)}{uploaded})")


def escape_azure(text: str) -> str:
    """Return the message of a logging command.

    learn.microsoft.com/azure/devops/pipelines/scripts/logging-commands; ``taskcommand.ts`` of
    github.com/microsoft/azure-pipelines-task-lib writes them so.
    """
    return text.replace("%", "%AZP25").replace("\r", "%0D").replace("\n", "%0A")


def escape_azure_property(text: str) -> str:
    """Return the value of a property of one."""
    return escape_azure(text).replace("]", "%5D").replace(";", "%3B")


def make_azure_summary(path: Path) -> str:
    """Return the command that adds a Markdown file to the summary; an absolute path."""
    return f"##vso[task.uploadsummary]{escape_azure(str(path))}"


def make_azure_upload(path: Path) -> str:
    """Return the command that uploads a file; an absolute path."""
    name = escape_azure_property(_ARTIFACT)
    return f"##vso[artifact.upload containerfolder={name};artifactname={name};]{escape_azure(str(path))}"


def escape_teamcity(text: str) -> str:
    """Return a value of a service message.

    jetbrains.com/help/teamcity/service-messages.html; what is not ASCII is written by its code.
    """
    text = "".join(_TEAMCITY.get(character, character) for character in text)
    return _NOT_ASCII.sub(lambda match: _escape_unit(match[0]), text)


def _escape_unit(character: str) -> str:
    units = character.encode("utf-16-be", errors="replace")
    return "".join(f"|0x{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def make_teamcity_block(capture: Capture, base: str) -> list[str]:
    """Return a warning, and a block that is folded; no message of status ERROR, which may fail a build."""
    name = escape_teamcity(f"{TITLE}: {capture.test}"[:_TEXT_LENGTH])
    line = escape_teamcity(describe_line(capture, base)[:_TEXT_LENGTH])
    answer = escape_unprintable(capture.answer[:_BLOCK_LENGTH], keep="\n")
    return [
        f"##teamcity[message text='{line}' status='WARNING']",
        f"##teamcity[blockOpened name='{name}']",
        f"##teamcity[message text='{escape_teamcity(answer)}' status='NORMAL']",
        f"##teamcity[blockClosed name='{name}']",
    ]


def make_teamcity_note(text: str) -> str:
    """Return a message for the log."""
    return f"##teamcity[message text='{escape_teamcity(text[:_TEXT_LENGTH])}' status='NORMAL']"


def make_teamcity_upload(path: Path) -> str:
    """Return the message that publishes a file while the build goes on; empty if it cannot name the path."""
    if not _PATTERN.isdisjoint(str(path)) or "=>" in str(path):
        return ""
    return f"##teamcity[publishArtifacts '{escape_teamcity(f'{path} => {_ARTIFACT}')}']"
