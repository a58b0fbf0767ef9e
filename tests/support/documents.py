"""The document of an archive, checked against its schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonschema
from manifest_schema import DOCUMENT

from pytest_gencore.archive import read_archive
from pytest_gencore.document.encode import encode_document, make_document

if TYPE_CHECKING:
    from pathlib import Path

VALIDATOR = jsonschema.Draft202012Validator(json.loads(DOCUMENT.schema.read_text()))


def check_document(archive: Path) -> dict[str, Any]:
    """Return the document of an archive: it follows its schema, and all of the archive could be read."""
    document: dict[str, Any] = json.loads(encode_document(make_document(read_archive(archive))))
    VALIDATOR.validate(document)
    assert document["unreadable"] == []
    return document
