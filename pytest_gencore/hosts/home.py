"""The artifact directory of the controller, which another host may have as well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.run.outcome import Outcome


def leave_token(directory: Path) -> Path | None:
    """Leave a file in the artifact directory: who finds it there has the same one; None if that fails."""
    path = directory / f".gencore-home-{os.urandom(6).hex()}"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return None
    return path


def look_here(outcome: Outcome) -> Outcome:
    """Return what became of a capture of which no run knows, by its archive in a directory of both hosts."""
    try:
        size = outcome.archive.stat().st_size
    except OSError as error:
        return outcome._replace(state="failed", reason=f"the archive is not there: {error.strerror}")
    return outcome._replace(state="done", size_bytes=size)
