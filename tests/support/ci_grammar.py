"""Readers of what is written for CI systems, each made from the documentation of its system."""

from __future__ import annotations

import html.parser
import re

from markdown_it import MarkdownIt

TAGS = {"h3", "table", "tr", "th", "td", "code", "br", "details", "summary", "pre"}
"""What a page is made of."""


def read_github(line: str) -> tuple[str, dict[str, str], str]:
    """Read a workflow command: name, properties, message."""
    match = re.fullmatch(r"::(\w+)(?: ([^:]*))?::(.*)", line)
    assert match is not None

    def unescape(text: str, codes: dict[str, str]) -> str:
        return re.sub("%(..)", lambda code: codes[code[1]], text)

    data = {"0D": "\r", "0A": "\n", "25": "%"}
    pairs = (pair.split("=", 1) for pair in (match[2] or "").split(","))
    properties = {name: unescape(value, data | {"3A": ":", "2C": ","}) for name, value in pairs}
    return match[1], properties, unescape(match[3], data)


def read_azure(line: str) -> tuple[str, dict[str, str], str]:
    """Read a logging command: the first ``]`` ends the properties, semicolons are between them."""
    match = re.fullmatch(r"##vso\[(\w+\.\w+)(?: ([^\]]*))?\](.*)", line)
    assert match is not None

    def unescape(text: str) -> str:
        codes = {"%3B": ";", "%0D": "\r", "%0A": "\n", "%5D": "]", "%AZP25": "%"}
        return re.sub("%(?:AZP25|3B|0D|0A|5D)", lambda code: codes[code[0]], text)

    pairs = (pair.split("=", 1) for pair in (match[2] or "").split(";") if pair)
    return match[1], {name: unescape(value) for name, value in pairs}, unescape(match[3])


_VALUE = r"'((?:[^'|\[\]\x00-\x1f\x7f-\U0010ffff]|\|['nr|\[\]]|\|0x[0-9a-f]{4})*)'"


def read_teamcity(line: str) -> tuple[str, dict[str, str]]:
    """Read a service message of one line; the name of the only value of a short one is empty."""
    match = re.fullmatch(rf"##teamcity\[(\w+)((?: (?:\w+=)?{_VALUE})+)\]", line)
    assert match is not None
    found = {}
    for name, value in re.findall(rf" (?:(\w+)=)?{_VALUE}", match[2]):
        units = re.sub(r"\|(?:0x(....)|(.))", _unescape_teamcity, value)
        found[name] = units.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return match[1], found


def _unescape_teamcity(code: re.Match[str]) -> str:
    return chr(int(code[1], 16)) if code[1] else {"n": "\n", "r": "\r"}.get(code[2], code[2])


class Reader(html.parser.HTMLParser):
    """Collects texts; no tag may be one that is not ours, and none may have attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {tag: [] for tag in TAGS}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert not attrs
        if tag != "br":
            self.open.append(tag)
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.texts[tag][-1] += data


def read_page(text: str) -> dict[str, list[str]]:
    """Return the texts by tag, after Markdown has let the page through: only lines between blocks may go."""
    shown = MarkdownIt("commonmark").enable("table").render(text)
    assert shown.splitlines() == [line for line in text.splitlines() if line]
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader.texts
