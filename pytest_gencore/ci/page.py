"""A table of captures with folded stacks, in HTML that Markdown passes through.

It is one HTML block of CommonMark (0.31, section 4.6), as it begins with a tag of the list there and has no
empty line: nothing in it is Markdown.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Final

from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.ci.captures import Capture

HEADING: Final = "<h3>Captured by pytest-gencore</h3>\n"
STACKS_LIMIT: Final = 64 << 10
"""Characters of one answer; more is in the text beside the archive."""
_LINE_LIMIT: Final = 1000
_NAMES: Final = ("test", "what happened", "archive", "open it")


def escape(text: str) -> str:
    """Return text that means itself in HTML, on one line."""
    return html.escape(escape_unprintable(text))


def make_code(text: str) -> str:
    """Return text in which nobody looks for mentions and links."""
    cut = text if len(text) <= _LINE_LIMIT else f"{text[:_LINE_LIMIT]}..."
    return f"<code>{escape(cut)}</code>"


def make_cell(capture: Capture, base: str) -> str:
    """Return what is told of the archive: it changes when that is finished."""
    page = [path.name for path in capture.find_beside() if path.suffix == ".html"]
    parts = [f"{make_code(capture.show_path(base))}, {escape(capture.describe_archive())}"]
    parts += [f"uploaded: {make_code(capture.url)}"] if capture.url else []
    parts += [f"with its stacks as a page: {make_code(name)}" for name in page]
    return "<br>".join(parts)


def make_row(capture: Capture, cell: str) -> str:
    """Return the row of a capture."""
    command = make_code(capture.command) if capture.command else ""
    cells = (make_code(capture.test), make_code(capture.verdict), cell, command)
    return f"<tr>{''.join(f'<td>{text}</td>' for text in cells)}</tr>\n"


def make_details(capture: Capture, limit: int = STACKS_LIMIT) -> str:
    """Return the folded stacks; an empty line would end the block, so it is written as a space."""
    answer = capture.answer
    if len(answer) > limit:
        answer = f"{answer[:limit]}\n... cut: the rest is in the text beside the archive"
    lines = [escape(line) if line.strip() else "&#32;" for line in answer.split("\n")]
    summary = f"stacks of {make_code(capture.test)}"
    return f"<details><summary>{summary}</summary><pre>{chr(10).join(lines)}</pre></details>\n"


def make_table(rows: Sequence[str]) -> str:
    """Return the table with these rows."""
    head = "".join(f"<th>{name}</th>" for name in _NAMES)
    return f"<table><tr>{head}</tr>\n{''.join(rows)}</table>\n"


def make_page(captures: Sequence[Capture], base: str, limit: int) -> str:
    """Return heading, table and stacks, of at most so many bytes; the last ones are left out."""
    text = HEADING + make_table([make_row(capture, make_cell(capture, base)) for capture in captures])
    for capture in captures:
        details = make_details(capture)
        if len((text + details).encode(errors="replace")) > limit:
            break
        text += details
    return text
