"""The bytes that the archives of a run may take together at home."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gencore.units import format_limit, format_size

if TYPE_CHECKING:
    from collections.abc import Callable


class Budget:
    """What all hosts of a run share; the collectors there keep to the limit for themselves."""

    def __init__(self, max_bytes: int, find_local_size: Callable[[], int]) -> None:
        """``max_bytes`` 0: no bound; ``find_local_size`` says what the archives of this host take."""
        self._limit = max_bytes
        self._find_local_size = find_local_size
        self._taken = 0

    def take(self, size: int) -> str:
        """Count an archive in; return why it is too much, then it is not counted."""
        if self._limit:
            taken = self._taken + self._find_local_size()
            if taken + size > self._limit:
                return (
                    f"the archives of this run would be larger than {format_limit(self._limit)}: "
                    f"{format_size(taken)} are finished (raise --gencore-max-size)"
                )
        self._taken += size
        return ""
