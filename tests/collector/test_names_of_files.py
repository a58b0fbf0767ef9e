"""Under which names files go into the archive, and into ``open.gdb``: a test may choose their paths."""

from __future__ import annotations

import io

import pytest

from pytest_gencore.collector.files import names
from pytest_gencore.collector.files.gdb_script import format_debugger_commands
from pytest_gencore.collector.files.libraries import Library
from pytest_gencore.collector.files.names import limit_listing, settle_names


def opened(path: str, *aliases: str) -> Library:
    return Library(path, 1, None, io.BytesIO(b"x"), "", aliases)


def test_unsafe_names_are_left_out_and_told() -> None:
    bad, twice, good = opened("/a\n/x.so"), opened("/lib/x.so"), opened("/lib/x.so", "/l\x1b.so", "/lib/y.so")
    core = opened("/core")
    notices: list[str] = []

    sources = [(name, b"") for name in ("t\r/a.py", "t/a.py", "lib/y.so")]
    kept = settle_names("top", [good, bad, twice, core], sources, notices)

    assert (good.source is not None, good.aliases) == (True, ("/lib/y.so",))
    assert good.note == "1 of its other names are left out"
    assert (bad.source, bad.note) == (None, "left out: its path has control characters")
    assert (twice.source, twice.note) == (None, "left out: another file has its name")
    assert (core.source, core.note) == (None, "left out: another file has its name")
    assert kept == [("t/a.py", b"")]
    assert notices == [
        "source /t\r/a.py is left out: its path has control characters",
        "source /lib/y.so is left out: another file has its name",
    ]


def test_notices_on_sources_are_few() -> None:
    notices: list[str] = []
    settle_names("top", [], [(f"t\r/{number}.py", b"") for number in range(300)], notices)
    assert len(notices) == 6
    assert notices[-1] == "more sources left out for their names: 295"


def test_listing_of_libraries_fits_into_the_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers refuse larger ones; the long paths are the ones that nobody misses."""
    monkeypatch.setattr(names, "_LISTED_LIMIT", 2000)
    long, short = opened("/long/" + "\x1b" * 300 + "/x.so"), opened("/usr/bin/python3")
    notices: list[str] = []

    assert limit_listing([long, short], notices) == [short]
    assert long.source is None
    assert notices == ["too many libraries: 1 left out and not listed"]


SCRIPT = """\
# Run in this folder: gdb -x open.gdb
set auto-load off
set sysroot .
set substitute-path / .
set solib-search-path ./usr/bin
file ./usr/bin/python3
core-file core
"""
HOSTILE = ["\nshell id\n", "\r", ":", "\\", '"', "`id`", "\x1b]0;x\x07", "\u2028", "\u202e", "\udcff"]


@pytest.mark.parametrize("part", HOSTILE, ids=ascii)
def test_no_path_becomes_a_command(part: str) -> None:
    plain, hostile = opened("/usr/bin/python3", f"/a{part}b/x.so"), opened(f"/d/x{part}y/z.so", "/d/z.so")
    notices: list[str] = []

    assert format_debugger_commands(plain.path, [plain, hostile], notices) == SCRIPT
    assert notices == ["folders of libraries that open.gdb lacks, as gdb would misread their paths: 1"]

    script = format_debugger_commands(hostile.path, [plain, hostile], notices)
    assert script == SCRIPT.replace("file ./usr/bin/python3", "# the executable cannot be named here")
    assert notices[-1] == "open.gdb lacks the executable: it is not included, or gdb would misread its path"


def test_executable_is_quoted_and_relative_folders_stay_so() -> None:
    notices: list[str] = []
    script = format_debugger_commands("/a b/it's", [opened("/a b/it's"), opened("/~root/$cwd/x.so")], notices)
    assert "\nfile ./a\\ b/it\\'s\n" in script
    assert "\nset solib-search-path ./a b:./~root/$cwd\n" in script
    assert not notices


def test_executable_that_is_not_included_is_not_named() -> None:
    """gdb would end the script there, before it opens the core."""
    notices: list[str] = []
    script = format_debugger_commands("/usr/bin/python3", [], notices)
    assert "file ./usr" not in script
    assert notices == ["open.gdb lacks the executable: it is not included, or gdb would misread its path"]
