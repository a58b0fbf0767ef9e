"""Read ``gencore.json`` of an archive that may be anybody's: checked, and bounded in memory."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

from pytest_gencore.archive.fields import Fields
from pytest_gencore.archive.manifest import SCHEMA_VERSION, Manifest
from pytest_gencore.errors import ArchiveError
from pytest_gencore.methods import current_name

MANIFEST_LIMIT: Final = 4 << 20
"""Bytes of JSON; 10,000 threads and 5,000 libraries take 3 MiB."""
_TOKENS_LIMIT: Final = 250_000
"""Commas and opening brackets: each can stand for an object of 200 bytes in memory."""
_DIGITS_LIMIT: Final = 40


def parse_manifest(data: bytes) -> Manifest:
    """Parse and check ``gencore.json``; raises ArchiveError that names the first field that is wrong."""
    fields = Fields(_decode(data))
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


def _decode(data: bytes) -> object:
    """Decode JSON whose size in memory is bounded before it is decoded."""
    if len(data) > MANIFEST_LIMIT:
        message = f"the manifest has {len(data)} bytes; the limit is {MANIFEST_LIMIT}"
        raise ArchiveError(message)
    if sum(data.count(token) for token in (b",", b"[", b"{")) > _TOKENS_LIMIT:
        raise ArchiveError("the manifest has too many entries")
    try:
        text = data.decode("ascii")
        return json.loads(text, parse_int=_to_int, parse_float=_to_float, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        message = f"the manifest is not valid JSON: {error}"
        raise ArchiveError(message) from error


def _to_int(digits: str) -> int:
    if len(digits) > _DIGITS_LIMIT:
        raise ValueError("a number has too many digits")
    return int(digits)


def _to_float(digits: str) -> float:
    if len(digits) > _DIGITS_LIMIT:
        raise ValueError("a number has too many digits")
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _refuse(name: str) -> NoReturn:
    message = f"{name} is not a number of JSON"
    raise ValueError(message)
