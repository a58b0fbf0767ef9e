"""The table of the run's folder, made from its files. As a program: write it into the documentation."""

from __future__ import annotations

from pathlib import Path

from pytest_gencore.run.files import FILES

PAGE_PATH = Path(__file__).parents[2] / "docs/explanation/how-a-capture-works.md"
TABLE_HEAD = "| file | made by | read by | removed by | what |\n|---|---|---|---|---|\n"


def format_table() -> str:
    """Return the table; the last one who leaves removes the folder with all that is in it."""
    rows = (
        f"| `{kind.pattern}` | {kind.made_by} | {kind.read_by} | {kind.removed_by} | {kind.meaning} |\n"
        for kind in FILES
    )
    return TABLE_HEAD + "".join(rows)


def find_table(page: str) -> str:
    """Return the table as the page has it."""
    start = page.index(TABLE_HEAD)
    return page[start : page.index("\n\n", start) + 1]


if __name__ == "__main__":
    text = PAGE_PATH.read_text()
    PAGE_PATH.write_text(text.replace(find_table(text), format_table()))
