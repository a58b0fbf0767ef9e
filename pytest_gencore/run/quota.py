"""The bytes that the finished archives of a run may take together."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pytest_gencore.errors import LimitError
from pytest_gencore.run.concurrency import lock_patiently
from pytest_gencore.run.files import BUDGET, FULL, STATE
from pytest_gencore.run.library_index import LibraryIndex
from pytest_gencore.run.state import read_state
from pytest_gencore.units import format_limit, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class SizeQuota:
    """What one collector sees of the quota, which all collectors of the run share."""

    def __init__(self, run_folder: Path, name: str, max_bytes: int) -> None:
        """``name`` is that of the collector's own archive; ``max_bytes`` 0: no bound."""
        self._folder = run_folder
        self._own = name
        self._limit = max_bytes

    def check(self, size: int) -> None:
        """Raise LimitError if an archive of ``size`` bytes is too much; later captures are refused then."""
        if not self._limit:
            return
        taken = self._taken()
        if taken + size > self._limit:
            with contextlib.suppress(OSError):
                (self._folder / FULL.named()).touch(mode=0o600)
            message = (
                f"the archives of this run would be larger than {format_limit(self._limit)}: "
                f"{format_size(taken)} are finished"
            )
            raise LimitError(message, help_text="raise --gencore-max-size")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other collectors from finishing an archive, from the check until the state says so.

        Not one that is stuck: then the archives may become larger. If the run's folder is gone there is
        nothing to share.
        """
        if not self._limit:
            yield
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        path = self._folder / BUDGET.named()
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, flags, 0o600)
                stack.callback(os.close, descriptor)
                lock_patiently(descriptor, path)
            yield

    def _taken(self) -> int:
        states = (read_state(path) for path in self._folder.glob(STATE.glob) if path.stem != self._own)
        finished = sum(state.size for state in states if state is not None and state.state == "done")
        return finished + LibraryIndex(self._folder).total_size()
