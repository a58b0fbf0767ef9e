"""What was told of the captures of a run, so that nothing is told twice: a file that all who tell lock."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.run.concurrency import lock_patiently, try_to_lock
from pytest_gencore.run.files import CI
from pytest_gencore.unpatched import NO_LINK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LIMIT: Final = 1 << 20
_FLAGS: Final = os.O_RDWR | os.O_CREAT | NO_LINK


@dataclass(slots=True)
class Memory:
    """What was told."""

    told: list[str] = field(default_factory=list)
    """Names of archives."""
    ended: list[str] = field(default_factory=list)
    """Those of which all was told."""
    cells: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Where in GitHub's file the cell of an archive begins, and what it holds, by its name."""
    notices: int = 0
    """Annotations that were made."""
    problem: str = ""
    """Why nothing more is tried."""


@contextlib.contextmanager
def open_memory(run_folder: Path | None, *, waits: bool) -> Iterator[Memory | None]:
    """Give the memory of a run to one process at a time; it is kept afterwards.

    None if another one has it and the caller does not wait. Where there is no folder nobody else tells.
    """
    if run_folder is None:
        yield Memory()
        return
    path = run_folder / CI.named()
    descriptor = os.open(path, _FLAGS, 0o600)
    with os.fdopen(descriptor, "r+") as file:
        if not (lock_patiently(descriptor, path) if waits else try_to_lock(descriptor)):
            yield None
            return
        memory = _parse(file.read(_LIMIT))
        try:
            yield memory
        finally:
            file.seek(0)
            file.truncate()
            json.dump(dataclasses.asdict(memory), file)


def _parse(text: str) -> Memory:
    try:
        fields: dict[str, Any] = json.loads(text)
        cells = {name: (int(at), str(cell)) for name, (at, cell) in fields.pop("cells").items()}
        return Memory(**fields, cells=cells)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Memory()
