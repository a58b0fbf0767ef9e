"""Dependencies point one way: plugin, capture, (a process boundary) collector, corefile; cli, archive."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pytest_gencore"
SHARED = {"errors", "methods", "runfolder", "version"}
ALLOWED = {
    "plugin": {"plugin", "capture", "request", *SHARED},
    "capture": {"capture", *SHARED},
    "collector": {"collector", "corefile", *SHARED},
    "corefile": {"corefile"},
    "archive": {"archive", "errors", "methods"},
    "cli": {"cli", "archive", "corefile", *SHARED},
    "__main__": {"cli"},
    "request": {"capture", *SHARED},
    "__init__": {"request", "archive", *SHARED},
    "runfolder": SHARED,
    "errors": set(),
    "methods": set(),
    "version": set(),
}
"""What each room may import of ours."""
FOREIGN = {
    "plugin": {"pytest", "pluggy"},
    "collector": {"isal", "psutil"},
    "cli": {"click"},
    "runfolder": {"psutil"},
}
"""Which packages that are not in the standard library a room may import."""


def imports_of(path: Path) -> set[str]:
    """Return all imported modules, also those of functions and type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if node.module == "pytest_gencore" else {node.module}
    return found


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports(path: Path) -> None:
    import sys

    room = room_of(path)
    for module in imports_of(path):
        top, *rest = module.split(".")
        if top == "pytest_gencore":
            assert rest[0] in ALLOWED[room], f"{room} imports {module}"
        elif top not in sys.stdlib_module_names:
            assert top in FOREIGN.get(room, set()), f"{room} imports {module}"


def test_every_room_has_rules() -> None:
    assert {room_of(path) for path in modules()} == set(ALLOWED)
