"""What each stage of a failed capture means to a person."""

from __future__ import annotations

import errno
from typing import Final

from pytest_gencore.protocol import Stage

STAGES: Final[dict[Stage, tuple[str, str]]] = {
    Stage.NONE: ("", ""),
    Stage.BUSY: ("another capture is still being taken", ""),
    Stage.TABLE: ("no memory for the table of threads", ""),
    Stage.LAUNCH: ("cannot create a process", ""),
    Stage.DIRECTORY: (
        "cannot make or open the directory {directory}",
        "choose another directory with --gencore-dir",
    ),
    Stage.RUN_DIRECTORY: (
        "cannot make a private folder in {directory}",
        "choose another directory with --gencore-dir",
    ),
    Stage.NAME: ("cannot create an archive in {directory}", "choose another directory with --gencore-dir"),
    Stage.FILES: ("cannot create work files in {directory}", "choose another directory with --gencore-dir"),
    Stage.PIPES: ("cannot create a pipe or a file in memory", ""),
    Stage.SNAPSHOT: ("cannot fork a snapshot of the process", ""),
    Stage.HANDOVER: ("cannot hand over to the collector", ""),
    Stage.EXEC: ("cannot start the collector with {executable}", ""),
    Stage.DIED: ("the collector was killed while it started", ""),
    Stage.CLAIMED: ("the test has been captured before", ""),
    Stage.LIMIT: ("the limit of {max_captures} captures of one run is reached", "raise --gencore-max-cores"),
    Stage.FULL: (
        "an archive of this run did not fit into the size that all may have",
        "raise --gencore-max-size",
    ),
    Stage.OWNER: (
        "no private folder in {directory}: the one that is there belongs to another user",
        "choose another directory with --gencore-dir",
    ),
    Stage.MODE: (
        "no private folder in {directory}: the one that is there is open to other users",
        "choose another directory with --gencore-dir",
    ),
}
"""What failed, and what would help; both with the engine's names in braces."""
ERRNO_SAYS_NOTHING: Final = frozenset({Stage.BUSY, Stage.DIED, Stage.OWNER, Stage.MODE})
"""Where the refusal is ours and the message has its reason."""
_HELP: Final = {
    errno.EFBIG: "raise the limit on the size of files: ulimit -f",
    errno.EMFILE: "raise the limit on open files: ulimit -n",
    errno.ENOMEM: "free memory, or raise the memory limit of the container",
}
_HELP_WITH_PROCESSES: Final = {
    errno.EAGAIN: "raise the limit on processes: ulimit -u, or pids.max of the container"
}


def find_help(stage: Stage, error: int) -> str:
    """Return what would help after the error at this stage; empty if that is not known."""
    if stage in (Stage.LAUNCH, Stage.SNAPSHOT) and error in _HELP_WITH_PROCESSES:
        return _HELP_WITH_PROCESSES[error]
    return _HELP.get(error) or STAGES[stage][1]
