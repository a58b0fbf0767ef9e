"""Programs of ours that collectors run: in the run's own interpreter, isolated, with just their packages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_START = (
    "import sys; sys.path += sys.argv[1:{end}]; del sys.argv[1:{end}]; "
    "from pytest_gencore.{module} import main; main()"
)
_FOLDERS = ("site-packages", "dist-packages")


def find_isolated_command(
    module: str, packages: Iterable[str], say_missing: Callable[[str], str], *, with_all: bool = False
) -> tuple[str, ...]:
    """Return the beginning of a command line that runs ``main`` of a module; no package is imported here.

    ``with_all``: with what those packages need, too, of whatever name. Raises ``UsageError`` with the text
    of ``say_missing`` for a package that is not there.
    """
    paths: dict[str, None] = {}
    for name in ("pytest_gencore", *packages):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise pytest.UsageError(say_missing(name))
        paths[str(Path(spec.origin).resolve().parents[1])] = None
    if with_all:
        paths.update(dict.fromkeys(path for path in sys.path if path.endswith(_FOLDERS)))
    start = _START.format(end=1 + len(paths), module=module)
    return (sys.executable, "-I", "-S", "-c", start, *paths)
