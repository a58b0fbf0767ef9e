"""Names of members: what the writer's side lets in, all readers take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_archives import CORE_SIZE, EXTENTS, NAME, new_manifest, read_core

from pytest_gencore.archive import names, read_archive
from pytest_gencore.archive.names import MemberNames, inner_name
from pytest_gencore.archive.writer import ArchiveWriter
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path

CONTROL = "its path has control characters"
LONG = "its path is too long"
REFUSED = {
    "/lib/a\nb.so": CONTROL,
    "/lib/a\rb.so": CONTROL,
    "/lib/\x1b]0;a\x07.so": CONTROL,
    "/lib/\x7f.so": CONTROL,
    "/lib/a\0b": CONTROL,
    "/lib//x.so": "its path has empty, '.' or '..' components",
    "/lib/./x.so": "its path has empty, '.' or '..' components",
    "/lib/../x.so": "its path has empty, '.' or '..' components",
    "/" + "x" * 256: LONG,
    "/" + "é" * 128: LONG,
    "/d" * 101: LONG,
    "/" + "/".join(["x" * 99] * 41): LONG,
    "/lib/\ud800.so": "its path is no text",
}


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_refused_on_both_sides(name: str, tmp_path: Path) -> None:
    assert MemberNames(NAME).add(name) == REFUSED[name]
    with pytest.raises(ArchiveError, match="not safe"):
        inner_name(NAME, f"{NAME}{name}")
    with (
        (tmp_path / "a").open("wb") as file,
        ArchiveWriter(file, NAME, 0) as writer,
        pytest.raises(ArchiveError, match="cannot be in an archive"),
    ):
        writer.add_bytes(name, b"")


@pytest.mark.parametrize(
    "name", ["/lib/a b:`id`\\\"'$~#.so", "/lib/\udcff.so", "/lib/\u202e", "/" + "x" * 255]
)
def test_accepted(name: str) -> None:
    assert MemberNames(NAME).add(name) == ""
    assert inner_name(NAME, f"{NAME}{name}") == name[1:]


def test_each_name_once() -> None:
    used = MemberNames(NAME)
    assert used.add("/lib/x.so") == ""
    assert used.add("lib/x.so") == "another file has its name"
    assert used.add("/lib/x.so/below") == "another file has its name"
    assert used.add("/lib") == "another file has its name", "it is a folder"
    assert used.add("/lib/y.so") == ""


def test_number_and_length_of_all_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers remember all of them, and so have limits."""
    monkeypatch.setattr(names, "MEMBERS_LIMIT", 3)
    used = MemberNames(NAME)
    assert [used.add(name) for name in "abc"] == ["", "", "there are too many files"]

    monkeypatch.setattr(names, "NAMES_LIMIT", 100)
    used = MemberNames("t")
    assert [used.add(letter * 45) for letter in "abc"] == ["", "", "there are too many files"]


NAMES = st.lists(
    st.lists(
        st.sampled_from(["", ".", "..", "a", "b", "é", "\udcff", "\r", "x" * 255]), min_size=1, max_size=4
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(found=NAMES)
def test_what_is_let_in_can_be_unpacked(
    found: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("names")
    used = MemberNames(NAME)
    kept = [name for name in map("/".join, found) if not used.add(name)]
    path = folder / f"{NAME}.tar.gz"
    with path.open("wb") as file, ArchiveWriter(file, NAME, 0) as writer:
        writer.reserve_manifest(json.dumps(new_manifest(libraries=[])).encode(), 512)
        writer.add_sparse("core", CORE_SIZE, EXTENTS, read_core)
        for name in kept:
            writer.add_bytes(name, b"1")

    unpacked = read_archive(path).unpack(folder / "out")

    assert all((unpacked / name.lstrip("/")).read_bytes() == b"1" for name in kept)
