"""Environments of CI systems, and what each would read of a run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ci_grammar import read_azure, read_github, read_page, read_teamcity

if TYPE_CHECKING:
    from pathlib import Path

    from projects import Ended

COMMAND = re.compile(r"^(?:::\w|##vso\[|##teamcity\[).*$", re.MULTILINE)
"""What a system takes for a command, at the start of a line."""
AGENT = """\
#!/bin/sh
{ echo "=== $BUILDKITE_AGENT_ACCESS_TOKEN $*"; cat; } >> "$FAKE_AGENT_LOG"
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a system was told."""

    rows: list[tuple[str, str, str]]
    """Test, what happened, and what came of the archive, in the order in which they were told."""
    stacks: list[str]
    uploads: list[str]
    """Names of files that it was asked to keep."""
    notices: int = 0


class System:
    """A job of a CI system in a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder
        self.file = folder / "summary.md"
        self._log = folder / "agent.log"
        self._programs = folder / "programs"
        if name == "github":
            self.file.touch()
        elif name == "azure":
            (folder / "_temp").mkdir()
        elif name == "buildkite":
            self._programs.mkdir()
            (self._programs / "buildkite-agent").write_text(AGENT)
            (self._programs / "buildkite-agent").chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "github": {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(self.file)},
            "azure": {"TF_BUILD": "True", "AGENT_TEMPDIRECTORY": str(self._folder / "_temp")},
            "teamcity": {"TEAMCITY_VERSION": "2025.11 (build 208117)"},
            "buildkite": {
                "BUILDKITE": "true",
                "BUILDKITE_AGENT_ACCESS_TOKEN": "token-of-the-job",
                "FAKE_AGENT_LOG": str(self._log),
                "PATH": f"{self._programs}:{os.environ['PATH']}",
            },
        }[self.name]

    def read(self, ended: Ended) -> Told:
        """Return what it was told by a run: lines of the log, and files."""
        found = COMMAND.findall(f"{ended.out}\n{ended.err}")
        return getattr(self, f"_read_{self.name}")(found)  # type: ignore[no-any-return]

    def _read_github(self, found: list[str]) -> Told:
        commands = [read_github(line) for line in found]
        assert {(name, properties["title"]) for name, properties, _ in commands} == {
            ("notice", "Captured by pytest-gencore")
        }
        return read_told(self.file.read_text(), [], len(commands))

    def _read_azure(self, found: list[str]) -> Told:
        commands = [read_azure(line) for line in found]
        (page,) = {message for name, _, message in commands if name == "task.uploadsummary"}
        uploads = [message for name, _, message in commands if name == "artifact.upload"]
        with open(page) as file:  # noqa: PTH123 - a text
            return read_told(file.read(), uploads)

    def _read_buildkite(self, found: list[str]) -> Told:
        assert not found
        _, *calls = re.split(r"^=== (.*)\n", self._log.read_text(), flags=re.MULTILINE)
        (call,) = set(calls[::2])
        assert re.fullmatch(r"token-of-the-job annotate --style warning --context gencore-\w+", call)
        pages = calls[1::2]
        assert len(set(pages)) == len(pages), "nothing is told twice"
        return read_told(pages[-1], [])

    def _read_teamcity(self, found: list[str]) -> Told:
        messages = [read_teamcity(line) for line in found]
        titles = [values["text"] for _, values in messages if values.get("status") == "WARNING"]
        blocks = [values["name"] for name, values in messages if name == "blockOpened"]
        uploads = [values[""] for name, values in messages if name == "publishArtifacts"]
        stacks = [values["text"] for _, values in messages if values.get("status") == "NORMAL"]
        tests = [block.removeprefix("Captured by pytest-gencore: ") for block in blocks]
        assert all(upload.endswith(" => gencore") for upload in uploads)
        rows = [(test, title, "") for test, title in zip(tests, titles, strict=True)]
        return Told(rows, stacks, [os.path.basename(upload.split(" => ")[0]) for upload in uploads])  # noqa: PTH119 - texts


def read_told(text: str, uploads: list[str], notices: int = 0) -> Told:
    """Read a page, of which each table has three columns for us."""
    texts = read_page(text)
    cells = texts["td"]
    rows = [(cells[at], cells[at + 1], cells[at + 2].rstrip()) for at in range(0, len(cells), 4)]
    names = [os.path.basename(path) for path in uploads]  # noqa: PTH119 - texts
    return Told(rows, texts["pre"], names, notices)
