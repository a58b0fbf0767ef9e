"""A file that comes from another host, and what is said of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pytest_gencore.run.outcome import Outcome

if TYPE_CHECKING:
    from pathlib import Path

NAME = "core_20261130.120000.7.001.tar.gz"
LIBRARIES = "libraries_20261130.120000.7.001.tar.gz"
DATA = bytes(range(256)) * 64
DIGEST = hashlib.sha256(DATA).hexdigest()


def make_outcome(directory: Path, **changes: Any) -> Outcome:
    facts: dict[str, Any] = {"nodeid": "test_a", "phase": "call", "worker_id": "gw0", "method": "memory"}
    facts |= {"size_bytes": len(DATA), "bytes_done": 0, "bytes_total": 0, "reason": "", "trigger": "failure"}
    return Outcome(archive=directory / NAME, **{"state": "done", **facts, **changes})
