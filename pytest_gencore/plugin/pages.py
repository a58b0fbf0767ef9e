"""Who makes the pages of a run: its own interpreter, isolated, with just the packages that they need."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_NEEDED = ("pytest_gencore", "click", "jinja2", "markupsafe")
_START = (
    "import sys; sys.path += sys.argv[1:{end}]; del sys.argv[1:{end}]; "
    "from pytest_gencore.cli import main; main()"
)


def find_page_command() -> tuple[str, ...]:
    """Return the beginning of a command line of ``gencore``; UsageError if a package is missing."""
    paths: dict[str, None] = {}
    for name in _NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            message = f"gencore: --gencore-html needs {name}: pip install 'pytest-gencore[html]'"
            raise pytest.UsageError(message)
        paths[str(Path(spec.origin).resolve().parents[1])] = None
    return (sys.executable, "-I", "-S", "-c", _START.format(end=1 + len(paths)), *paths)
