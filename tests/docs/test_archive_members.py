"""The table of members in the documentation is that of a real archive."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from sealed_runs import make_key

if TYPE_CHECKING:
    import pytest
    from sample_runs import FindArchives, RunGencore

PAGE = Path(__file__).parents[2] / "docs/reference/archive.md"
ROW = re.compile(r"^\| `([^`/]+)` \| (0\d+) \|", re.MULTILINE)


def test_members_and_their_order(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    """Named rows are members of archives of a failure or a hang, in that order and with that mode."""
    pytester.makepyfile(
        test_bad="def test_bad(): assert 0",
        test_slow="import time\ndef test_slow():\n    print(1)\n    time.sleep(1)",
    )
    run_gencore("--gencore-on-fail", "--gencore-timeout=200ms")
    bad, slow = (members_of(path) for _, path in sorted(find_archives().items()))
    _, _, text = PAGE.read_text().partition("## Members")
    table, _, _ = text.partition("\n### ")
    rows = ROW.findall(table)
    assert bad == [row for row in rows if row[0] != "output.txt"]
    assert slow == [row for row in rows if row[0] != "failure.txt"]


def test_members_of_a_sealed_archive(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(test_bad="def test_bad(): assert 0")
    run_gencore("--gencore-on-fail", f"--gencore-recipient={make_key(pytester.path)}")
    ((_, archive),) = find_archives().items()
    _, _, text = PAGE.read_text().partition("\n### Sealed archives\n")
    table, _, _ = text.partition("\n### ")
    assert members_of(archive) == ROW.findall(table)


def members_of(archive: Path) -> list[tuple[str, str]]:
    """Return name and mode of the members that are in no folder."""
    with tarfile.open(archive) as tar:
        members = [(member.name.partition("/")[2], f"{member.mode:04o}") for member in tar]
    return [member for member in members if member[0] and "/" not in member[0]]
