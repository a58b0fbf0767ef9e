"""Every setting from every source, alone and against every other source."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from projects import is_foreign

from pytest_gencore.plugin import options, values
from pytest_gencore.plugin.settings import PARSERS, Marker, apply_marker, read_marker, resolve_settings


@dataclass(frozen=True)
class Case:
    """A setting, and what each source says."""

    name: str
    default: object
    ini: tuple[str, object]
    command_line: tuple[str, object]
    marker: object = None


CASES = [
    Case("method", "auto", ("kernel", "kernel"), ("memory", "memory"), "kernel"),
    Case("threads", "all", ("calling", "calling"), ("all", "all"), "calling"),
    Case("filter", 0xFF, ("0x33", 0x33), ("1", 1)),
    Case("timeout", None, ("2.5", 2.5), ("7", 7.0), 9),
    Case("moment", "report", ("raise", "raise"), ("report", "report"), "raise"),
    Case("capture_memory", None, ("90%", 90.0), ("50", 50.0)),
    Case("ci", "auto", ("github", "github"), ("none", "none")),
    Case("store", "", ("file:///a/b/", "file:///a/b"), ("s3://b/c", "s3://b/c")),
    Case("max_cores", 10, ("0", 0), ("3", 3)),
    Case("max_size", 4 * 1024**3, ("2MiB", 2 * 1024**2), ("500MB", 500_000_000)),
]
BOOLS = (False, True)
PRODUCT = [
    pytest.param(case, *sources, id=f"{case.name}-{sources}")
    for case in CASES
    for sources in itertools.product(BOOLS, BOOLS, BOOLS if case.marker else (False,))
]


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what other plugins do while configuring out of these tests, and what a CI system says."""
    for name in filter(is_foreign, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def configure(pytester: pytest.Pytester, *args: str, ini: str = "") -> pytest.Config:
    """Return a config made of command line and ini file."""
    pytester.makeini(f"[pytest]\n{ini}")
    return pytester.parseconfig("-p", "pytest_gencore.plugin", *args)


def flag(name: str) -> str:
    return "--gencore-" + name.replace("_", "-")


@pytest.mark.parametrize(("case", "in_ini", "in_command_line", "in_marker"), PRODUCT)
def test_precedence(
    pytester: pytest.Pytester, case: Case, *, in_ini: bool, in_command_line: bool, in_marker: bool
) -> None:
    ini = f"gencore_{case.name} = {case.ini[0]}" if in_ini else ""
    args = [f"{flag(case.name)}={case.command_line[0]}"] if in_command_line else []
    settings = resolve_settings(configure(pytester, *args, ini=ini))
    if in_marker:
        item = pytester.getitem("import pytest\ndef test_func(): pass")
        item.add_marker(pytest.mark.gencore(**{case.name: case.marker}))
        settings = apply_marker(settings, read_marker(item))
    expected = (
        case.marker
        if in_marker
        else case.command_line[1]
        if in_command_line
        else case.ini[1]
        if in_ini
        else case.default
    )
    assert getattr(settings, case.name) == expected


@pytest.mark.slow(rows=6)
@pytest.mark.parametrize(("in_ini", "in_command_line"), list(itertools.product((None, False, True), BOOLS)))
@pytest.mark.parametrize("in_marker", [None, False, True])
def test_precedence_of_on_fail(
    pytester: pytest.Pytester, in_ini: bool | None, in_command_line: bool, in_marker: bool | None
) -> None:
    ini = "" if in_ini is None else f"gencore_on_fail = {in_ini}"
    settings = resolve_settings(configure(pytester, *["--gencore-on-fail"] * in_command_line, ini=ini))
    if in_marker is not None:
        item = pytester.getitem("def test_func(): pass")
        item.add_marker(pytest.mark.gencore(enabled=in_marker))
        settings = apply_marker(settings, read_marker(item))
    assert settings.on_fail is (in_marker if in_marker is not None else in_command_line or bool(in_ini))


@pytest.mark.parametrize("where", ["default", "ini", "command line", "absolute"])
def test_directory_is_relative_to_its_source(pytester: pytest.Pytester, where: str) -> None:
    below = pytester.mkdir("below")
    ini = "gencore_dir = cores" if where == "ini" else ""
    args = {"command line": ["--gencore-dir=cores"], "absolute": ["--gencore-dir=/x/y"]}.get(where, [])
    pytester.makeini(f"[pytest]\n{ini}")
    root = pytester.path
    pytester.chdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(below)
        settings = resolve_settings(
            pytester.parseconfig("-p", "pytest_gencore.plugin", *args, "-c", str(root / "tox.ini"))
        )
    expected = {
        "default": root / "gencore-artifacts",
        "ini": root / "cores",
        "command line": below / "cores",
        "absolute": Path("/x/y"),
    }
    assert settings.dir == expected[where]
    assert settings.dir.is_absolute()


BAD = [
    ("dir", "~no-such-user/cores"),
    ("method", "gdb"),
    ("threads", "some"),
    ("filter", "0x1000"),
    ("filter", "-1"),
    ("filter", "all"),
    ("timeout", "0"),
    ("timeout", "-1"),
    ("timeout", "nan"),
    ("timeout", "inf"),
    ("timeout", "soon"),
    ("moment", "later"),
    ("capture_memory", "0"),
    ("capture_memory", "101%"),
    ("capture_memory", "-1"),
    ("capture_memory", "nan"),
    ("capture_memory", "90%%"),
    ("capture_memory", "much"),
    ("max_cores", "-1"),
    ("max_cores", "many"),
    ("max_size", "0"),
    ("max_size", "4 elephants"),
    ("max_size", "-1MB"),
]


@pytest.mark.parametrize(("name", "text"), [*BAD, ("dir", " ")])
def test_bad_value_on_the_command_line_names_it(pytester: pytest.Pytester, name: str, text: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"from command line {flag(name)}"):
        resolve_settings(configure(pytester, f"{flag(name)}={text}"))


@pytest.mark.parametrize(("name", "text"), BAD)
def test_bad_value_in_ini_names_it(pytester: pytest.Pytester, name: str, text: str) -> None:
    with pytest.raises(pytest.UsageError, match=f"from ini gencore_{name}"):
        resolve_settings(configure(pytester, ini=f"gencore_{name} = {text}"))


def test_bad_bool_in_ini_names_it(pytester: pytest.Pytester) -> None:
    with pytest.raises(pytest.UsageError, match="from ini gencore_on_fail"):
        resolve_settings(configure(pytester, ini="gencore_on_fail = maybe"))


@pytest.mark.parametrize(("old", "new"), [("crash", "kernel"), ("copy", "memory")])
def test_old_names_of_methods(pytester: pytest.Pytester, old: str, new: str) -> None:
    """Wherever a method is given; what comes out is today's name."""
    assert resolve_settings(configure(pytester, f"--gencore-method={old}")).method == new
    assert resolve_settings(configure(pytester, ini=f"gencore_method = {old}")).method == new
    item = pytester.getitem("def test_func(): pass")
    item.add_marker(pytest.mark.gencore(method=old))
    marker = read_marker(item)
    assert marker is not None
    assert marker.method == new


@pytest.mark.slow(rows=5)
@pytest.mark.parametrize(
    "keywords",
    [
        {"method": "gdb"},
        {"method": ["kernel"]},
        {"threads": "some"},
        {"moment": "later"},
        {"raises": "ValueError"},
        {"raises": ()},
        {"raises": (ValueError, int)},
        {"timeout": 0},
        {"timeout": "soon"},
        {"timeout": "0s"},
        {"timeout": True},
        {"enabled": "no"},
        {"enabled": None},
        {"on_fail": True},
    ],
)
def test_bad_marker_names_the_test(pytester: pytest.Pytester, keywords: dict[str, Any]) -> None:
    item = pytester.getitem("def test_func(): pass")
    item.add_marker(pytest.mark.gencore(**keywords))
    with pytest.raises(pytest.UsageError, match=r"from marker on test .*::test_func"):
        read_marker(item)


def test_marker_takes_no_positional_arguments(pytester: pytest.Pytester) -> None:
    item = pytester.getitem("def test_func(): pass")
    item.add_marker(pytest.mark.gencore("kernel"))
    with pytest.raises(pytest.UsageError, match=r"positional .*from marker on test .*::test_func"):
        read_marker(item)


def test_markers_merge_with_the_nearest_first(pytester: pytest.Pytester) -> None:
    item = pytester.getitem("def test_func(): pass")
    item.add_marker(pytest.mark.gencore(enabled=False, method="kernel", timeout=5))
    item.add_marker(pytest.mark.gencore(method="memory"), append=False)
    assert read_marker(item) == Marker(enabled=True, method="memory", timeout=5.0)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1", 1),
        ("1B", 1),
        ("2 kB", 2000),
        ("1K", 1024),
        ("1.5KiB", 1536),
        ("4gib", 4 * 1024**3),
        ("1T", 1024**4),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert values.parse_size(text) == size_bytes


def test_every_option_has_an_ini_twin_and_help(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest("-p", "pytest_gencore.plugin", "--help")
    result.stdout.fnmatch_lines(["core dumps of failing tests:"])
    text = result.stdout.str()
    for name in ("on_fail", *(option.name for option in options.TABLE)):
        assert flag(name) in text
        assert f"gencore_{name} (" in text


def test_each_option_has_a_parser() -> None:
    assert set(PARSERS) == {option.name for option in options.TABLE}
