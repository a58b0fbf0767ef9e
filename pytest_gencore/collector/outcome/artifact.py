"""What a capture made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Artifact:
    """The finished file."""

    size: int
    """Bytes of the file."""
    method: str
    """What made the core."""
    notices: list[str]
    """What readers of the summary should know."""
