"""Schemas and tables of the manifest and the document, made from their classes.

As a program: write all into their files.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal

from pytest_gencore.archive.manifest import SCHEMA_VERSION, Manifest
from pytest_gencore.document.model import DOCUMENT_VERSION, Document

ROOT = Path(__file__).parents[2]
TABLE_HEAD = "| field | meaning |\n|---|---|\n"
INTEGER_LIMIT = 1 << 63


class Format(typing.NamedTuple):
    """A format with a version, and where it is described."""

    kind: Any
    version: int
    schema: Path
    page: Path
    title: str
    description: str


MANIFEST = Format(
    Manifest,
    SCHEMA_VERSION,
    ROOT / "pytest_gencore/archive/manifest.schema.json",
    ROOT / "docs/reference/archive.md",
    "Manifest of a pytest-gencore archive",
    "gencore.json, the first member of an archive. Fields that are not listed here are allowed: readers "
    "ignore them.",
)
DOCUMENT = Format(
    Document,
    DOCUMENT_VERSION,
    ROOT / "pytest_gencore/document/document.schema.json",
    ROOT / "docs/reference/document.md",
    "What a pytest-gencore archive tells",
    "As gencore diagnose --json prints it. Fields that are not listed here are allowed: readers ignore them.",
)


def make_schema(made: Format) -> dict[str, Any]:
    """Return the schema of a whole document."""
    described = describe_object(made.kind)
    version = {
        "description": "Changes only when readers of the old one would be wrong",
        "const": made.version,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": made.title,
        "description": made.description,
        "type": "object",
        "properties": {"schema_version": version, **described["properties"]},
        "required": ["schema_version", *described["required"]],
    }


def describe_object(kind: Any) -> dict[str, Any]:
    """Return the schema of one of the classes."""
    hints = typing.get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.metadata.get("json", True)]
    return {
        "type": "object",
        "properties": {
            field.name: {
                "description": field.metadata["description"],
                **describe_type(hints[field.name], field.metadata),
            }
            for field in fields
        },
        "required": [field.name for field in fields if field.default is dataclasses.MISSING],
    }


def describe_type(hint: Any, metadata: typing.Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a field by its type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        inner = describe_type(arguments[0], metadata)
        return {**inner, "type": [inner["type"], "null"]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": describe_type(arguments[0], {"pattern": "", "lowest": 0})}
    if dataclasses.is_dataclass(hint):
        return describe_object(hint)
    simple: dict[Any, dict[str, Any]] = {
        int: {"type": "integer", "minimum": metadata["lowest"], "maximum": INTEGER_LIMIT - 1},
        float: {"type": "number", "minimum": 0, "exclusiveMaximum": INTEGER_LIMIT},
        bool: {"type": "boolean"},
        str: {"type": "string", **({"pattern": metadata["pattern"]} if metadata["pattern"] else {})},
    }
    return simple[hint]


def format_schema(made: Format) -> str:
    """Return the text of the file."""
    return json.dumps(make_schema(made), indent=2) + "\n"


def format_table(made: Format) -> str:
    """Return the table of all fields for the page in docs/reference."""
    rows = (f"| `{name}` | {meaning} |\n" for name, meaning in describe_rows(make_schema(made), ""))
    return TABLE_HEAD + "".join(rows)


def describe_rows(schema: dict[str, Any], prefix: str) -> typing.Iterator[tuple[str, str]]:
    """Yield name and meaning of each field, objects before what is in them."""
    for name, field in schema["properties"].items():
        full = f"{prefix}{name}"
        yield full, field["description"] if "const" not in field else f"{field['const']}"
        inner = field.get("items", field)
        if "properties" in inner:
            yield from describe_rows(inner, f"{full}[]." if "items" in field else f"{full}.")


def find_table(page: str) -> str:
    """Return the table as a page has it."""
    start = page.index(TABLE_HEAD + "| `schema_version`")
    return page[start : page.index("\n\n", start) + 1]


if __name__ == "__main__":
    for made in (MANIFEST, DOCUMENT):
        made.schema.write_text(format_schema(made))
        page = made.page.read_text()
        made.page.write_text(page.replace(find_table(page), format_table(made)))
