"""What became of a capture, for those who wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.triggers import Trigger


class Outcome(NamedTuple):
    """What became, or is becoming, of one capture."""

    archive: Path
    state: Literal["working", "done", "failed", "dropped"]
    """``dropped``: nobody wanted the archive any more, see ``Run.drop``."""
    reason: str
    """Why it failed; for a finished one what is worth knowing (truncated, ...); else empty."""
    nodeid: str | None
    phase: str | None
    worker_id: str | None
    trigger: Trigger | None
    """None until the collector has said it."""
    method: str
    size_bytes: int
    """Size of the finished archive; 0 before."""
    bytes_done: int
    bytes_total: int
    """Bytes of core and libraries read so far and in all; 0 while unknown."""
    queued: bool = False
    """Whether it waits for other collectors of the run; its snapshot exists."""
    captured_pid: int = 0
    """The captured process; 0 while unknown."""
    attempt: int = 1
    """1 for the first run of the test, one more for each rerun."""
    signal: int | None = None
    """Number of the signal behind it, for trigger ``crash``."""
    summary: str = ""
    """One line: what happened, and where."""
    deadline_source: str | None = None
    """Who set the deadline, for trigger ``timeout``."""
    place: str = ""
    """Where in or outside of the test, in words; empty if test and phase say it."""
    child_of: int = 0
    """The armed process, if a child of it was captured; else 0."""
    has_core: bool = True
    """Whether the archive has a core, or will have."""
    has_archive: bool = True
    """Whether there is an archive, or there will be: not if nobody wants one."""
    url: str = ""
    """Where the archive is in the store; empty if it is not there."""
    store_problem: str = ""
    """Why it is not, if it should be."""
    subject: str = ""
    """The test, or the place outside of tests, without secrets; empty as long as the answer is not known."""
    answer: str = ""
    """What happened and where every thread was, some lines for a log; empty as long as it is not known."""
