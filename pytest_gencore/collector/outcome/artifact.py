"""What a capture made."""

from __future__ import annotations

from typing import NamedTuple


class Artifact(NamedTuple):
    """The finished file."""

    size: int
    """Bytes of the file."""
    method: str
    """What made the core."""
    notices: list[str]
    """What readers of the summary should know."""
