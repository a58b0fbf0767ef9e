"""The names and the bytes that the archives of a run have at home, whichever host they come from."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from pytest_gencore.run.files import ARCHIVE_SUFFIX
from pytest_gencore.units import format_limit, format_size

if TYPE_CHECKING:
    from collections.abc import Callable


class Budget:
    """What all hosts of a run share, each on its thread; collectors there keep to the limit by themselves."""

    def __init__(self, max_bytes: int, find_local_size: Callable[[], int]) -> None:
        """``max_bytes`` 0: no bound; ``find_local_size`` says what the archives of this host take."""
        self._limit = max_bytes
        self._find_local_size = find_local_size
        self._taken = 0
        self._named: Counter[str] = Counter()
        self._lock = threading.Lock()

    def choose_name(self, name: str) -> str:
        """Return what an archive is called at home; each host asks once for one of its own.

        Processes of two hosts may have equal ids: the number of the second one's is a thousand more.
        """
        with self._lock:
            others = self._named[name]
            self._named[name] += 1
        if not others:
            return name
        stem, _, number = name.removesuffix(ARCHIVE_SUFFIX).rpartition(".")
        if not number.isdecimal():
            return f"{name.removesuffix(ARCHIVE_SUFFIX)}.{1000 * others}{ARCHIVE_SUFFIX}"
        return f"{stem}.{int(number) + 1000 * others}{ARCHIVE_SUFFIX}"

    def take(self, size: int) -> str:
        """Count an archive in; return why it is too much, then it is not counted."""
        local = self._find_local_size() if self._limit else 0
        with self._lock:
            taken = self._taken + local
            if self._limit and taken + size > self._limit:
                return (
                    f"the archives of this run would be larger than {format_limit(self._limit)}: "
                    f"{format_size(taken)} are finished (raise --gencore-max-size)"
                )
            self._taken += size
        return ""
