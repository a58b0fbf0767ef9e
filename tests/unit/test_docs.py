"""What the documentation names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pytest_gencore
from pytest_gencore import archive
from pytest_gencore.capture.stages import STAGES
from pytest_gencore.plugin.options import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "pytest_gencore"
PAGES = sorted([ROOT / "README.md", *(ROOT / ".github").rglob("*.md"), *DOCS.rglob("*.md")])
NEWS = sorted(path for path in (DOCS / "changelog.d").iterdir() if path.name != "README.md")
OPTION = re.compile(r"--gencore-[a-z]+(?:-[a-z]+)*")
INI = re.compile(r"^gencore_[a-z_]+(?= *=)", re.MULTILINE)
CODE_BLOCK = re.compile(r"^( *)(```+)[^\n]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
SOURCE = re.compile(r"`([\w.*]+/[\w./*]*)`")
PLACEHOLDER = re.compile(r"\b(?:N|VALUE|REASON|PATH|DIR|SIZE|SECONDS|SIGNAL|STATUS|WORKER|FIELD|NAME)\b")
FRAGMENT = re.compile(r"(?:\d+|\+\w+)\.(?:feature|bugfix|doc|removal|misc)(?:\.\d+)?\.md")
NAMES = {"on_fail", *(option.name for option in TABLE)}
INI_ONLY = {"exit_on_timeout"}


@cache
def prose_of(page: Path) -> str:
    """Return a page without its code blocks, in which `#` begins a comment."""
    return CODE_BLOCK.sub("", page.read_text())


@cache
def anchors_of(page: Path) -> frozenset[str]:
    """Return the anchors that GitHub gives a page's headings."""
    anchors: set[str] = set()
    for heading in HEADING.findall(prose_of(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        repeated = next((number for number in range(1, 100) if f"{slug}-{number}" not in anchors), 0)
        anchors.add(f"{slug}-{repeated}" if slug in anchors else slug)
    return frozenset(anchors)


def section_of(page: Path, title: str) -> str:
    """Return the text under a heading, up to the next one of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}\n", prose_of(page), re.MULTILINE)
    assert match, f"{page.name} has no section {title!r}"
    rest = prose_of(page)[match.end() :]
    return re.split(rf"^#{{1,{len(match[1])}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_and_links(page: Path) -> None:
    text = page.read_text()
    for option in OPTION.findall(text):
        assert option.removeprefix("--gencore-").replace("-", "_") in NAMES, option
    for ini in INI.findall(text):
        assert ini.removeprefix("gencore_") in NAMES | INI_ONLY, ini
    for target, anchor in LINK.findall(prose_of(page)):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"the link to {target} leads nowhere"
        assert not anchor or anchor in anchors_of(path), f"{path.name} has no heading for #{anchor}"


def test_a_wrong_anchor_is_found() -> None:
    anchors = anchors_of(DOCS / "reference/options.md")
    assert {"--gencore-on-fail", "deadlines", "gencore_exit_on_timeout"} <= anchors
    assert "no-such-heading" not in anchors


def test_every_page_can_be_reached() -> None:
    """The site's navigation is made from the links of index.md."""
    index = DOCS / "index.md"
    linked = {(DOCS / target).resolve() for target, _ in LINK.findall(index.read_text()) if target}
    pages = {page for page in DOCS.rglob("*.md") if "/." not in str(page.relative_to(DOCS))}
    missing = sorted(str(page.relative_to(DOCS)) for page in pages - {*NEWS, *linked, index})
    assert missing == [], "docs/index.md has no link to these pages"


@pytest.mark.parametrize("page", ["explanation/architecture.md", "explanation/traps.md", "contributing.md"])
def test_named_files_exist(page: str) -> None:
    """Paths on pages for developers are relative to the package or, of tests, to the checkout."""
    names = SOURCE.findall((DOCS / page).read_text())
    places = (ROOT, PACKAGE, PACKAGE / "capture", PACKAGE / "collector")
    assert len(names) > 2
    missing = [name for name in names if not any([*place.glob(name)] for place in places)]
    assert missing == [], f"these files were moved or removed: say so in {page}"


def test_every_option_is_documented() -> None:
    text = (DOCS / "reference/options.md").read_text()
    for name in NAMES:
        assert f"--gencore-{name.replace('_', '-')}" in text
        assert f"gencore_{name}" in text


def test_every_public_name_is_documented() -> None:
    text = (DOCS / "reference/python-api.md").read_text()
    public = {*pytest_gencore.__all__, *archive.__all__} - {"__version__"}
    assert sorted(name for name in public if not re.search(rf"\b{name}\b", text)) == []


@pytest.mark.parametrize(
    ("page", "title"), [("reference/archive.md", "Notices"), ("reference/messages.md", "Messages")]
)
def test_messages_are_those_of_the_code(page: str, title: str) -> None:
    """Words in capitals stand for what differs; all the rest of a message stands in the code."""
    code = code_of_the_package()
    cells = [
        row.split(" | ")[0] for row in section_of(DOCS / page, title).splitlines() if row.startswith("| `")
    ]
    messages = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    parts = [(message, part) for message in messages for part in PLACEHOLDER.split(message) if part.strip()]
    assert len(messages) > 10
    assert [message for message, part in parts if part not in code] == [], f"not printed, but in {page}"


@cache
def code_of_the_package() -> str:
    """Return the text of all sources."""
    return "\n".join(map(read_joined, [*sorted(PACKAGE.rglob("*.py")), *sorted(PACKAGE.rglob("*.c"))]))


def read_joined(source: Path) -> str:
    """Return its text; literals that follow each other are joined."""
    return re.sub(r'"\s*\n\s*f?"', "", source.read_text())


NOT_FOR_USERS = {"ValueError", "TypeError", "RuntimeError", "AttributeError", "OSError", "CoreFormatError"}
FOR_PROGRAMMERS = {"has no attribute", "the artifact directory must be absolute"}
DETAILS = {"the archive is corrupt: ", "its ", "another file has ", "there are too many "}
"""Begin reasons that the list has as REASON."""


LISTS_OF_NOTICES = {"notices.append", "late.append", "shown.append", "self.notices.append"}


def literal_texts(node: ast.expr) -> list[str]:
    """Return the fixed parts of a literal."""
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [value.value for value in values if isinstance(value, ast.Constant)]
    return [text for text in texts if isinstance(text, str)]


def messages_of(module: Path) -> Iterator[str]:
    """Yield the fixed parts of the errors that a module raises and of the notes that it prints."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "message":
            yield from literal_texts(node.value)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name.endswith(("Error", "Exception", "Aborted")) and name not in NOT_FOR_USERS:
                values = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "help_text")]
            elif name in {"note", "add_note"} or ast.unparse(node.func) in LISTS_OF_NOTICES:
                values = node.args[:1]
            elif name == "Finding":
                values = [*node.args[1:2], *node.args[3:]]
            elif name == "ValueError":  # the reason of a usage error
                values = [value for value in node.args if "expected" in "".join(literal_texts(value))]
            else:
                continue
            for value in values:
                yield from literal_texts(value)


def test_every_message_is_listed() -> None:
    """As far as a message is a literal where an error is raised or a note is printed."""
    listed = (DOCS / "reference/messages.md").read_text() + (DOCS / "reference/archive.md").read_text()
    modules = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "corefile"]
    parts = {part.strip(" ;,():'") for module in modules for part in messages_of(module)}
    handlers = "".join(read_joined(path) for path in PACKAGE.rglob("*.c"))
    parts |= {line.removesuffix("\\n").strip(" :") for line in re.findall(r'"(gencore: [^"]+)"', handlers)}
    parts -= FOR_PROGRAMMERS
    sentences = {part for part in parts if len(part.split()) > 2 and not part.startswith(tuple(DETAILS))}
    assert len(sentences) > 100
    assert sorted(part for part in sentences if part not in listed) == [], "not in reference/messages.md"


def test_no_message_asks() -> None:
    """What is known is said, and what is not known is not guessed."""
    texts = [*STAGES.values(), *(list(messages_of(module)) for module in PACKAGE.rglob("*.py"))]
    assert [text for group in texts for text in group if text.rstrip(")").endswith("?")] == []


def test_news_fragments() -> None:
    assert [path.name for path in NEWS if not FRAGMENT.fullmatch(path.name)] == []
