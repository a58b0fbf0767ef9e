"""The table of members in the documentation is that of a real archive."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest
    from sample_runs import FindArchives, RunGencore

PAGE = Path(__file__).parents[2] / "docs/reference/archive.md"
ROW = re.compile(r"^\| `([^`/]+)` \| (0\d+) \|", re.MULTILINE)


def test_members_and_their_order(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    """Named rows are members of an archive of a failure, in that order and with that mode; no others are."""
    pytester.makepyfile("def test_bad(): assert 0")
    run_gencore("--gencore-on-fail")
    (path,) = find_archives().values()
    with tarfile.open(path) as tar:
        members = [(member.name.partition("/")[2], f"{member.mode:04o}") for member in tar]
    _, _, text = PAGE.read_text().partition("## Members")
    table, _, _ = text.partition("\n## ")
    assert [member for member in members if member[0] and "/" not in member[0]] == ROW.findall(table)
