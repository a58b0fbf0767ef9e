"""What the page about CI shows is what CI systems are told; ``GENCORE_WRITE_DOCS=1`` writes it anew."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from ci_systems import COMMAND, System
from log_samples import ROOT, TIMEOUT, Build
from terminal_picture import strip_colours

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs/how-to/attach-in-ci.md"
BLOCK = re.compile(r"(<!-- sample: (\w+) -->\n```\n)(.*?)(```\n)", re.DOTALL)
RUN = f"pytest --gencore-on-fail {TIMEOUT} test_deadlock.py"
SYSTEMS = ("github", "azure", "teamcity")
OF_PYTHON = re.compile(r"  File &quot;/usr/lib|    \S|  \.\.\. \d+ frames")
"""Lines that differ with the versions of Python and of plugins."""


def produce(folder: Path, name: str) -> str:
    """Return what a system is told of a run, without what differs from run to run."""
    build = Build(folder / "build")
    system = System(name, build.folder)
    text = strip_colours(build.run(RUN, more=system.environment, files=[system.file]))
    commands = "\n".join(COMMAND.findall(text))
    page = text.partition("<h3>")
    text = "\n".join(filter(None, [commands, page[1] + page[2].strip()]))
    text = re.sub(r" {3,}(?=</td>)", "", text)
    text = re.sub(r"[\d.]+ MiB", "41.2 MiB", text)
    text = re.sub(r"gencore-[0-9a-f]{12}\.md", "gencore-44f1c167f63a.md", text)
    return re.sub(r"(\|nWhat everything waits for:).*(' status)", r"\1[...]\2", text) + "\n"


def essence(block: str) -> list[str]:
    return [line for line in block.splitlines() if not OF_PYTHON.match(line)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_page_shows_what_is_told(tmp_path: Path, name: str) -> None:
    produced = produce(tmp_path, name)
    if os.environ.get("GENCORE_WRITE_DOCS") == "1":
        page = BLOCK.sub(
            lambda match: match[1] + (produced if match[2] == name else match[3]) + match[4],
            PAGE.read_text(),
        )
        PAGE.write_text(page)
    (committed,) = [match[3] for match in BLOCK.finditer(PAGE.read_text()) if match[2] == name]
    assert essence(committed) == essence(produced)


def test_page_has_all_samples_and_nothing_of_a_machine() -> None:
    blocks = {match[2]: match[3] for match in BLOCK.finditer(PAGE.read_text())}
    assert tuple(blocks) == SYSTEMS
    for text in blocks.values():
        assert "deadlock" in text or "uploadsummary" in text
        assert not re.search(r"/(?:tmp|home|root|work|usr/local|opt)/", text)
