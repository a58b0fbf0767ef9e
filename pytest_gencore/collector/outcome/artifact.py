"""What a capture made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gencore.collector.files.library_cache import PackLog


@dataclass(frozen=True, slots=True)
class Artifact:
    """The finished file."""

    size: int
    """Bytes of the file."""
    method: str
    """What made the core."""
    notices: list[str]
    """What readers of the summary should know."""
    packs: PackLog
    """Where the libraries are in it."""
