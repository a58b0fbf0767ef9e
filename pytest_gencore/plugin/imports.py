"""Import our own modules fast, and as they are.

pytest would rewrite the assertions of the whole package of a plugin: there are none to explain to users, and
each import would take a third longer. New objects would make the garbage collector look at all others.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_OURS = f"{__name__.partition('.')[0]}."


class _Finder:
    """Finds our modules before pytest's import hook does."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module of ours is, None for the others."""
        return PathFinder.find_spec(name, path, target) if name.startswith(_OURS) else None


@contextlib.contextmanager
def fast_imports() -> Iterator[None]:
    """Import our modules so meanwhile; tests find both as they were."""
    collects = gc.isenabled()
    gc.disable()
    sys.meta_path.insert(0, _Finder)
    try:
        yield
    finally:
        sys.meta_path.remove(_Finder)
        if collects:
            gc.enable()
