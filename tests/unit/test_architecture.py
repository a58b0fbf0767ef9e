"""Dependencies point one way, between rooms and between modules; see docs/explanation/architecture.md."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pytest_gencore"
SHARED = {
    "contents",
    "errors",
    "installed",
    "methods",
    "protocol",
    "systems",
    "texts",
    "triggers",
    "units",
    "unpatched",
    "version",
}
"""Leaf modules that every room may import."""
ALLOWED = {
    "plugin": {
        "plugin",
        "capture",
        "ci",
        "hosts",
        "junit",
        "machine",
        "probe",
        "redaction",
        "request",
        "run",
        "age",
        "api",
        "store",
        *SHARED,
    },
    "probe": {"probe", "capture"},
    "portable": {"portable", "probe", "run", *SHARED},
    "capture": {"capture", "machine", "portable", "request", "run", *SHARED},
    "collector": {
        "age",
        "collector",
        "archive",
        "ci",
        "corefile",
        "junit",
        "machine",
        "redaction",
        "request",
        "run",
        "sandbox",
        "store",
        *SHARED,
    },
    "hosts": {"hosts", "run", *SHARED},
    "run": {"run", "machine", "request", *SHARED},
    "redaction": {"redaction", *SHARED},
    "request": {"request", *SHARED},
    "ci": {"ci", "run", *SHARED},
    "junit": {"junit", "run", *SHARED},
    "sandbox": {"sandbox", *SHARED},
    "machine": {"machine", *SHARED},
    "corefile": {"corefile"},
    "archive": {"archive", "age", *SHARED},
    "document": {"document", "archive", *SHARED},
    "page": {"page", "archive", "document", *SHARED},
    "cli": {"cli", "archive", "corefile", "document", "page", "machine", "run", "sandbox", "store", *SHARED},
    "store": {"store", *SHARED},
    "age": SHARED,
    "__main__": {"cli"},
    "api": {"capture", "request", "run", *SHARED},
    "__init__": {"api", "archive", *SHARED},
    "contents": set(),
    "errors": set(),
    "installed": set(),
    "methods": set(),
    "protocol": set(),
    "systems": {"methods"},
    "version": set(),
    "texts": {"installed"},
    "triggers": set(),
    "units": set(),
    "unpatched": set(),
}
"""What each room may import of ours."""
FOREIGN = {
    "plugin": {"pytest", "pluggy"},
    "age": {"pyrage"},
    "archive": {"isal"},
    "cli": {"click"},
    "hosts": {"execnet"},
    "page": {"jinja2", "markupsafe"},
    "sandbox": {"pystack"},
    "store": {"fsspec"},
}
"""Which packages that are not in the standard library a room may import."""
FLOORS = ("main", "assemble", "outcome", "stacks", "diagnosis", "core", "files", "source")
"""Rooms of the collector, from top to bottom: an import goes down, or stays in its room."""


def name_of(path: Path) -> str:
    """Return a module's name below the package, ``__init__`` for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def modules() -> dict[str, Path]:
    return {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """Return all imported modules, also those of functions and of type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full.removeprefix("pytest_gencore.") in modules() or alias.name in {
                    "_native",
                    "_scanner",
                }
                found.add(full if is_module else node.module)
    return found


def own_imports_of(path: Path) -> set[str]:
    """Return the modules of the package that a file imports."""
    names = {
        name.removeprefix("pytest_gencore.")
        for name in imports_of(path)
        if name.startswith("pytest_gencore.")
    }
    return {name for name in names if name in modules()}


def room_of(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("name", modules())
def test_imports(name: str) -> None:
    room = room_of(name)
    for module in imports_of(modules()[name]):
        top, *rest = module.split(".")
        if top == "pytest_gencore":
            assert (rest or ["__init__"])[0] in ALLOWED[room], f"{name} imports {module}"
        elif top not in sys.stdlib_module_names:
            assert top in FOREIGN.get(room, set()), f"{name} imports {module}"


def floor_of(name: str) -> int:
    """Return how high a module of the collector is, -1 for one that all of them use."""
    part = name.split(".")[1]
    return FLOORS.index(part) if part in FLOORS else -1


@pytest.mark.parametrize("name", [name for name in modules() if name.startswith("collector.")])
def test_floors_of_the_collector(name: str) -> None:
    own = floor_of(name)
    if own >= 0:
        lower = {module for module in own_imports_of(modules()[name]) if module.startswith("collector.")}
        assert all(floor_of(module) >= own or floor_of(module) < 0 for module in lower), lower


def test_every_room_has_rules() -> None:
    assert {room_of(name) for name in modules()} == set(ALLOWED)


LEAVES = SHARED - {"protocol"} | {"__init__", "__main__"}
"""What has tests of the rooms that use it."""


def test_the_tests_of_every_room_are_named() -> None:
    root = PACKAGE.parent
    text = (root / "docs/contributing.md").read_text().partition("## Which tests look at a room\n")[2]
    rows = re.findall(r"^\| `([\w/]+)` \| (.+) \|$", text.partition("\n## ")[0], re.MULTILINE)
    assert {room.rstrip("/") for room, _ in rows} == set(ALLOWED) - LEAVES
    named = [path for _, tests in rows for path in re.findall(r"`(tests/[\w/.]+)`", tests)]
    assert not [path for path in named if not (root / path).exists()]
    folders = {path.parts[1] for path in map(Path, named)}
    assert folders >= {path.parent.name for path in root.glob("tests/*/test_*.py")} - {"install"}


@pytest.mark.parametrize(("suffix", "limit"), [("py", 300), ("c", 400), ("h", 400)])
def test_no_file_is_too_long_to_be_read_at_once(suffix: str, limit: int) -> None:
    lines = {path.name: path.read_text().count("\n") for path in PACKAGE.rglob(f"*.{suffix}")}
    assert lines
    assert not {name: count for name, count in lines.items() if count > limit}


def test_every_folder_is_installed() -> None:
    """An editable install would not miss one."""
    listed = re.findall(
        r'^    "(pytest_gencore[\w.]*)",$', (PACKAGE.parent / "pyproject.toml").read_text(), re.MULTILINE
    )
    folders = {".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in modules().values()}
    assert folders == set(listed)


def test_no_circle() -> None:
    """No module needs itself, not by an import in a function or for type checking either."""
    graph = {name: own_imports_of(path) - {name} for name, path in modules().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
