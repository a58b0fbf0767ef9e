"""What a subject reports of its captures."""

from __future__ import annotations

from typing import Any


def only(answer: Any) -> Any:
    """Return the one outcome of an answer."""
    (outcome,) = answer["outcomes"]
    return outcome
