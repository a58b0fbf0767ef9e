"""What became of a capture, for those who wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pytest_gencore.run.files import DIAGNOSIS
from pytest_gencore.run.pinned import read_regular
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.triggers import TRIGGERS

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.run.state import CaptureState
    from pytest_gencore.triggers import Trigger

_ANSWER_LIMIT: Final = 1 << 20


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
    """Bytes of core and libraries read so far and in all, or uploaded; 0 while unknown."""
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
    is_uploading: bool = False
    """Whether the archive is there, and is being uploaded; the state is ``working`` then."""
    url: str = ""
    """Where the archive is in the store; empty if it is not there."""
    store_problem: str = ""
    """Why it is not, if it should be."""
    subject: str = ""
    """The test, or the place outside of tests, without secrets; empty as long as the answer is not known."""
    answer: str = ""
    """What happened and where every thread was, some lines for a log; empty as long as it is not known."""


def make_outcome(directory: Path, path: Path, state: CaptureState) -> Outcome:
    """Return what a state says; ``path`` is that of its file, ``directory`` the artifact directory."""
    return Outcome(
        archive=directory / (state.result or f"{path.stem}.tar.gz"),
        state="working" if state.state == "queued" or state.goes_on else state.state,
        reason=escape_unprintable(state.reason),
        nodeid=state.nodeid,
        phase=state.phase,
        place=state.place,
        child_of=state.child_of,
        has_archive=state.state != "dropped"
        and not (state.trigger is not None and TRIGGERS[state.trigger].is_only_told),
        worker_id=state.worker_id,
        trigger=state.trigger,
        method=state.method,
        size_bytes=state.size,
        has_core=state.has_core,
        bytes_done=state.bytes_done,
        bytes_total=state.bytes_total,
        queued=state.state == "queued",
        captured_pid=state.captured_pid,
        attempt=state.attempt,
        signal=state.signal,
        summary=escape_unprintable(state.summary),
        is_uploading=state.goes_on and state.is_uploading,
        url=escape_unprintable(state.url),
        store_problem=escape_unprintable(state.store_problem),
        subject=escape_unprintable(state.subject),
        deadline_source=state.deadline_source,
        answer=_read_answer(path.with_name(DIAGNOSIS.named(path.stem))) if state.answered else "",
    )


def _read_answer(path: Path) -> str:
    try:
        text = read_regular(path, _ANSWER_LIMIT).decode(errors="replace")
    except OSError:
        return ""
    return escape_unprintable(text, keep="\n")
