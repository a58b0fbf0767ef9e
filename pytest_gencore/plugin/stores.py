"""Who uploads archives to a store: found when the run starts, and nothing of it is imported here."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from pytest_gencore.store.url import PACKAGES, kind_of

_EXTRA = frozenset({"fsspec", "s3fs"})
_START = (
    "import sys; sys.path += sys.argv[1:{end}]; del sys.argv[1:{end}]; "
    "from pytest_gencore.store.upload import main; main()"
)


def find_upload_command(store: str) -> tuple[str, ...]:
    """Return the beginning of the command line of an upload: this interpreter, isolated, with its packages.

    Raises ``UsageError`` if one is missing. None of them is imported.
    """
    paths: dict[str, None] = {}
    for name in ("pytest_gencore", "fsspec", PACKAGES[kind_of(store)]):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            needed = "'pytest-gencore[store]'" if name in _EXTRA else name
            message = f"gencore: a store of kind {kind_of(store)} needs {name}: pip install {needed}"
            raise pytest.UsageError(message)
        paths[str(Path(spec.origin).resolve().parents[1])] = None
    paths.update(
        dict.fromkeys(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
    )
    return (sys.executable, "-I", "-S", "-c", _START.format(end=1 + len(paths)), *paths)
