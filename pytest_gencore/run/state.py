"""The state file of a capture: what it is about and how far it is, for those who wait for it.

A collector keeps its file locked from before its program starts until it ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from pytest_gencore.run.files import CLAIM
from pytest_gencore.run.pinned import open_regular, read_regular

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.triggers import Trigger

STATE_SIZE: Final = 4096
"""Bytes of a state file; more only with a very long reason or test name."""
_LIMIT: Final = 1 << 20
"""Bytes of one that is read."""

Phase = Literal["working", "queued", "done", "failed", "dropped"]


@dataclass(slots=True, kw_only=True)
class CaptureState:
    """One capture, as its collector tells it."""

    state: Phase = "working"
    """``queued``: it waits for other collectors; ``dropped``: nobody wanted the archive any more."""
    pid: int = 0
    """The collector; 0 if that is not known."""
    captured_pid: int = 0
    trigger: Trigger | None = None
    method: str = "auto"
    nodeid: str | None = None
    phase: str | None = None
    """Of the test."""
    place: str = ""
    """Where in or outside of the test, in words; empty if test and phase say it."""
    child_of: int = 0
    """The armed process, if a child of it was captured; else 0."""
    attempt: int = 1
    worker_id: str | None = None
    signal: int | None = None
    """Number of the signal behind it."""
    deadline_source: str | None = None
    summary: str = ""
    """One line: what happened, and where."""
    subject: str = ""
    """The test, or the place outside of tests, without secrets; empty until the diagnosis is there."""
    answered: bool = False
    """Whether the diagnosis is in the run's folder."""
    slot: int = 0
    """Which of the run's captures it is; 0 if they are not limited."""
    claim: str | None = None
    """File in the run's folder that keeps others from capturing the same test."""
    bytes_done: int = 0
    bytes_total: int = 0
    """Bytes of core and libraries read so far and in all; 0 while unknown."""
    result: str = ""
    """Name of the finished file in the artifact directory; empty until then."""
    size: int = 0
    """Bytes of the finished file."""
    has_core: bool = True
    """Whether it has a core, or will have."""
    reason: str = ""
    """Why it failed; of a finished one what is worth knowing."""
    goes_on: bool = False
    """Whether the archive is there, and its page for the browser is being made, or it is uploaded."""
    is_uploading: bool = False
    """Whether the archive is being uploaded, or waits for that; bytes are those of the upload then."""
    url: str = ""
    """Where the archive is in the store; empty if it is not there."""
    store_problem: str = ""
    """Why it is not."""

    @property
    def is_final(self) -> bool:
        """Whether its collector has nothing more to do than to clean up."""
        return self.state in {"done", "failed", "dropped"}


_NAMES: Final = frozenset(field.name for field in dataclasses.fields(CaptureState))


def write_state(descriptor: int, state: CaptureState) -> None:
    """Write the state over what a state file holds; raises OSError.

    The size of the file stays if it can, so a full disk does no harm.
    """
    data = _encode(state)
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def replace_state(path: Path, state: CaptureState) -> None:
    """Write the state in place of the file of another one; raises OSError.

    In one step, if there is room for a new file, and on Windows if nobody has the old one open. Else over
    what that holds: whoever reads it meanwhile finds nothing that can be true, and looks again.
    """
    data = _encode(state)
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_bytes(data)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        with os.fdopen(open_regular(path, os.O_RDWR), "r+b") as file:
            file.write(data)
            file.truncate(len(data))


def _encode(state: CaptureState) -> bytes:
    return json.dumps(dataclasses.asdict(state)).encode().ljust(STATE_SIZE)


def read_state(path: Path, descriptor: int | None = None) -> CaptureState | None:
    """Return what a state file says; None if it says nothing yet, nothing that can be true, or is gone.

    With ``descriptor``, of that file, no other one is needed.
    """
    try:
        data = read_regular(path, _LIMIT) if descriptor is None else os.pread(descriptor, _LIMIT, 0)
        fields: Any = json.loads(data)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or not fields.keys() >= _NAMES or not _is_sound(fields, path.stem):
        return None
    return CaptureState(**{name: fields[name] for name in _NAMES})


def _is_sound(fields: dict[str, Any], name: str) -> bool:
    """Whether what may be removed because of a state are files of its own capture."""
    claim = fields["claim"]
    return (
        fields["state"] in get_args(Phase)
        and fields["result"] in ("", name, f"{name}.tar.gz")
        and isinstance(fields["slot"], int)
        and (claim is None or (isinstance(claim, str) and CLAIM.matches(claim) and "/" not in claim))
    )
