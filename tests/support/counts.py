"""How often a test repeats what it does: CI, and whoever sets GENCORE_THOROUGH=1, takes the larger number."""

from __future__ import annotations

import os


def count(usual: int, *, thorough: int) -> int:
    """Return one of both."""
    return thorough if is_thorough() else usual


def is_thorough() -> bool:
    """Return whether all is tried that can be."""
    return os.environ.get("GENCORE_THOROUGH") == "1"
