"""Read ``gencore.json`` of an archive that may be anybody's: checked, and bounded in memory."""

from __future__ import annotations

from typing import Any

from pytest_gencore.archive.fields import Fields
from pytest_gencore.archive.json_text import decode_json
from pytest_gencore.archive.manifest import SCHEMA_VERSION, Manifest
from pytest_gencore.errors import ArchiveError
from pytest_gencore.methods import current_name


def parse_manifest(data: bytes) -> Manifest:
    """Parse and check ``gencore.json``; raises ArchiveError that names the first field that is wrong."""
    fields = Fields(decode_json(data, "the manifest"))
    version = fields.integer("schema_version")
    if version == 1:
        fields = Fields(_upgrade(fields.values))
    elif version != SCHEMA_VERSION:
        message = (
            f"the manifest has schema_version {version}, "
            f"this version of pytest-gencore reads 1 to {SCHEMA_VERSION}"
        )
        raise ArchiveError(message, help_text="a newer pytest-gencore may read it")
    return fields.read(Manifest, document=fields.values)


def _upgrade(document: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of version 1 as one of version 2: methods had other names, the trigger was a word."""
    method = document.get("method")
    method = current_name(method) if isinstance(method, str) else method
    return {**document, "trigger": {"kind": document.get("trigger")}, "method": method}
