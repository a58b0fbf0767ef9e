"""The run's hidden folder in the artifact directory: where waiting processes and collectors meet.

Collectors are nobody's children, so each leaves its state in a file that it keeps locked while it lives.
Beside ``NAME.json`` (state) there are ``NAME.log`` (its standard error), ``NAME.txt`` (the answer: trigger
and stacks), ``NAME.packs`` (where in the archive compressed libraries are) and ``NAME/`` (the snapshot's
working directory).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from pytest_gencore.errors import UnavailableError
from pytest_gencore.machine.process import start_ticks

CLOSED_MARK = "closed"
"""A file in the folder: nobody waits any more, collectors remove their own traces."""
NO_CORE_MARK = "no-core"
"""A file in the folder: the kernel wrote no core although it should have; later captures use method copy."""
FULL_MARK = "full"
"""A file in the folder: the archives of the run are as large as they may be."""
CLAIM_PREFIX = "claim-"
"""Of files in the folder, one a captured test; a byte in it for each further capture that was refused."""
SLOT_PREFIX = "slot-"
"""Of files in the folder, one a capture under way or finished, if their number is limited."""
SEEN_PREFIX = "seen-"
"""Of files in the folder: a report names the archive of this name, a capture at a deadline."""
DROP_PREFIX = "drop-"
"""Of files in the folder: nobody wants the archive of this name any more."""
REFUSED_LIMIT, REFUSED_FULL = "refused-limit", "refused-full"
"""Files in the folder with a byte for each capture that a limit refused."""
JUNIT_MARK = "junit"
"""A file in the folder: which junit file collectors have written in place of pytest."""
BUDGET_MARK = "budget"
"""A file in the folder: locked by the collector that counts the sizes of the run's archives."""
_MARKS = (CLOSED_MARK, NO_CORE_MARK, FULL_MARK, REFUSED_LIMIT, REFUSED_FULL, JUNIT_MARK, BUDGET_MARK)
_MARK_PREFIXES = (CLAIM_PREFIX, SLOT_PREFIX, DROP_PREFIX, SEEN_PREFIX)
_PREFIX = ".gencore-"


def new_run_id() -> str:
    """Return an id for a run that this process waits for; it tells collectors whether that still lives.

    It has the id of the process and when it began, in clock ticks since boot: setting the clock changes
    neither.

    Raises UnavailableError if ``/proc`` does not show this process.
    """
    try:
        birth = start_ticks(os.getpid())
    except (OSError, ValueError, IndexError) as error:
        message = f"this process cannot be seen in /proc: {error}"
        raise UnavailableError(message, help_text="mount /proc") from error
    return f"{os.getpid()}-{birth}-{uuid.uuid4().hex[:12]}"


def run_folder_name(run_id: str) -> str:
    """Return the name of the run's folder in the artifact directory."""
    return f"{_PREFIX}{run_id}"


def is_awaited(folder: Path) -> bool:
    """Tell whether somebody still waits for the captures of this run."""
    if (folder / CLOSED_MARK).exists():
        return False
    try:
        pid, birth, _ = folder.name.removeprefix(_PREFIX).split("-")
        return start_ticks(int(pid)) == int(birth)
    except (OSError, ValueError, IndexError):
        return False


def is_locked(state_file: Path) -> bool:
    """Tell whether the collector of this state file is alive."""
    try:
        descriptor = os.open(state_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def find_holder(state_file: Path) -> int:
    """Return the process that has locked a state file, 0 if that cannot be known; see proc(5), ``locks``."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        inode = state_file.stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1:2] == ["FLOCK"] and int(fields[5].rpartition(":")[2]) == inode:
                return int(fields[4])
    return 0


@dataclass(frozen=True, slots=True)
class Refusals:
    """How many captures of a run were refused."""

    number: int
    """Because there are as many as there may be."""
    size: int
    """Because the archives are as large as they may be."""
    again: int
    """Because the test had been captured before, by a worker that died."""


def count_refusals(folder: Path) -> Refusals:
    """Count what processes that may be dead by now were refused."""

    def size_of(path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError:
            return 0

    return Refusals(
        number=size_of(folder / REFUSED_LIMIT),
        size=size_of(folder / REFUSED_FULL),
        again=sum(map(size_of, folder.glob(f"{CLAIM_PREFIX}*"))),
    )


def remove_traces(folder: Path, name: str) -> None:
    """Remove what one capture used in the folder."""
    shutil.rmtree(folder / name, ignore_errors=True)
    for suffix in (".json", ".log", ".txt", ".packs"):
        with contextlib.suppress(OSError):
            (folder / f"{name}{suffix}").unlink()


def release_place(folder: Path, slot: int, claim: str | None) -> None:
    """Let others capture in place of a capture that has no archive: its slot, 0 without, and its claim."""
    names = [f"{SLOT_PREFIX}{slot}"] if slot else []
    for name in [*names, *([claim] if claim else [])]:
        with contextlib.suppress(OSError):
            (folder / name).unlink()


def sweep(folder: Path) -> None:
    """Remove the traces of all captures that no collector works on, and the folder if that was all."""
    for state in sorted(folder.glob("*.json")):
        if not is_locked(state):
            remove_traces(folder, state.stem)
    remove_if_idle(folder)


def remove_if_idle(folder: Path) -> None:
    """Remove the folder if no capture uses it any more."""
    with contextlib.suppress(OSError):
        entries = list(folder.iterdir())
        if all(entry.name in _MARKS or entry.name.startswith(_MARK_PREFIXES) for entry in entries):
            for entry in entries:
                entry.unlink(missing_ok=True)
            folder.rmdir()
