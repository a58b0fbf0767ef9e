"""What the documentation names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_gencore.plugin.options import TABLE

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
OPTION = re.compile(r"--gencore-[a-z]+(?:-[a-z]+)*")
INI = re.compile(r"^gencore_[a-z_]+(?= *=)", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")
FRAGMENT = re.compile(r"(?:\d+|\+\w+)\.(?:feature|bugfix|doc|removal|misc)(?:\.\d+)?\.md|README\.md")
NAMES = {"on_fail", *(option.name for option in TABLE)}
INI_ONLY = {"exit_on_timeout"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_and_links(page: Path) -> None:
    text = page.read_text()
    for option in OPTION.findall(text):
        assert option.removeprefix("--gencore-").replace("-", "_") in NAMES, option
    for ini in INI.findall(text):
        assert ini.removeprefix("gencore_") in NAMES | INI_ONLY, ini
    for target in LINK.findall(text):
        assert (page.parent / target).exists(), target


def test_every_option_is_documented() -> None:
    text = (ROOT / "docs/reference/options.md").read_text()
    for name in NAMES:
        assert f"--gencore-{name.replace('_', '-')}" in text
        assert f"gencore_{name}" in text


def test_news_fragments() -> None:
    names = [path.name for path in (ROOT / "docs/changelog.d").iterdir()]
    assert [name for name in names if not FRAGMENT.fullmatch(name)] == []
