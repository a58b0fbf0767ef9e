"""The manifest's JSON schema: what the collector writes follows it, and the reader agrees with it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from capabilities import both_methods
from counts import count
from gencore_archives import read_manifest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_archives import MANIFEST, new_manifest
from manifest_schema import (
    DOCUMENT,
    Format,
    find_table,
    format_schema,
    format_table,
)
from manifest_schema import (
    MANIFEST as MANIFEST_FORMAT,
)
from subjects import run_subject

from pytest_gencore.archive import parse_manifest
from pytest_gencore.errors import ArchiveError

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "pytest_gencore/archive/manifest.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

CAPTURED = """
import sys
from subjects import *
from pytest_gencore.probe import main as probe
assert probe.arm()
captures = Captures(sys.argv[1])
with blocked_threads(2):
    captures.take(method=sys.argv[2], trigger="failure", failure_text="E", nodeid="a::b", phase="call")
    report(outcomes=captures.finish())
"""


both_formats = pytest.mark.parametrize("made", [MANIFEST_FORMAT, DOCUMENT], ids=["manifest", "document"])


@both_formats
def test_schema_is_that_of_the_classes(made: Format) -> None:
    assert made.schema.read_text() == format_schema(made), "run python tests/support/manifest_schema.py"


@both_formats
def test_schema_is_a_schema(made: Format) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(made.schema.read_text()))


@both_methods
def test_real_archive(tmp_path: Path, method: str) -> None:
    (outcome,) = run_subject(CAPTURED, tmp_path / "out", method)["outcomes"]

    manifest = read_manifest(Path(outcome["archive"]))

    VALIDATOR.validate(manifest)
    assert len(parse_manifest(json.dumps(manifest).encode()).threads) == 3
    assert fields_of(manifest) == fields_of(MANIFEST), "what tests make is what collectors write"
    assert set(manifest) == set(SCHEMA["properties"])


def test_made_manifest() -> None:
    VALIDATOR.validate(MANIFEST)


def test_executable_of_windows() -> None:
    manifest = new_manifest(executable="C:/Python313/python.exe")
    VALIDATOR.validate(manifest)
    assert parse_manifest(json.dumps(manifest).encode()).executable == "C:/Python313/python.exe"


@pytest.mark.parametrize(("old", "new"), [("crash", "kernel"), ("copy", "memory")])
def test_old_names_of_methods(old: str, new: str) -> None:
    """They are those of version 1, whose trigger was a word."""
    manifest = new_manifest(schema_version=1, method=old, trigger="crash")

    parsed = parse_manifest(json.dumps(manifest).encode())

    assert (parsed.method, parsed.trigger.kind) == (new, "crash")


@both_formats
def test_every_field_is_documented(made: Format) -> None:
    """The table of the page is the one of the classes."""
    table = find_table(made.page.read_text())
    assert table == format_table(made), "run python tests/support/manifest_schema.py"


def fields_of(value: Any) -> set[str]:
    """Return the names of all fields in a document, with those of the objects they are in."""
    paths = paths_of(value)
    return {".".join(part for part in path if isinstance(part, str)) for path in paths}


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return where every value in a JSON document is."""
    found = [path]
    for key, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        found += paths_of(inner, (*path, key))
    return found


def replaced(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = replaced(document[path[0]], path[1:], value)
    return copy


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=count(100, thorough=400), deadline=None)
@given(path=st.sampled_from(paths_of(MANIFEST)), value=ANYTHING)
def test_reader_accepts_what_the_schema_accepts(path: tuple[str | int, ...], value: object) -> None:
    """And raises nothing but ArchiveError. It is more lenient where only people read a field."""
    manifest = replaced(new_manifest(), path, value)
    try:
        parse_manifest(json.dumps(manifest).encode())
    except ArchiveError:
        assert not VALIDATOR.is_valid(manifest), "the schema allows it"


@settings(max_examples=count(100, thorough=300), deadline=None)
@given(path=st.sampled_from(paths_of(MANIFEST)), name=st.text(max_size=8), value=ANYTHING)
def test_unknown_fields_are_allowed(path: tuple[str | int, ...], name: str, value: object) -> None:
    def add(document: Any, path: tuple[str | int, ...]) -> Any:
        inner = document
        for part in path:
            inner = inner[part]
        return {**inner, f"x-{name}": value} if isinstance(inner, dict) else inner

    manifest = replaced(new_manifest(), path, add(MANIFEST, path))
    try:
        json.dumps(manifest, allow_nan=False)
    except ValueError:
        return

    VALIDATOR.validate(manifest)
    parse_manifest(json.dumps(manifest).encode())


@settings(max_examples=count(100, thorough=300), deadline=None)
@given(data=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_bytes_that_are_no_manifest(data: bytes) -> None:
    with pytest.raises(ArchiveError):
        parse_manifest(data)


@settings(max_examples=count(100, thorough=300), deadline=None)
@given(offset=st.integers(0, 10_000), data=st.binary(min_size=1, max_size=4))
def test_damaged_manifest(offset: int, data: bytes) -> None:
    text = bytearray(json.dumps(MANIFEST).encode())
    offset %= len(text)
    text[offset : offset + len(data)] = data
    with contextlib.suppress(ArchiveError):
        parse_manifest(bytes(text))
