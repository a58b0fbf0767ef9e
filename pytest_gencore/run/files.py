"""The files of the run's hidden folder: the protocol between captured processes, collectors, and who waits.

The table in docs/explanation/how-a-capture-works.md is made from ``FILES``. What is made by the launcher is
made in csrc/runfiles.c, under the same names.
"""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

_PLACEHOLDERS: Final = ("NAME", "HASH", "N")
SHARED_GLOB: Final = "libraries_*.tar.gz"
"""Archives of libraries in an artifact directory."""
PARTIAL_SUFFIX: Final = ".partial"
"""Behind the name of an archive that is not finished; it is in the artifact directory."""


class RunFile(NamedTuple):
    """One kind of file."""

    pattern: str
    """Its name: ``NAME`` is that of an archive without ``.tar.gz``, ``HASH`` of a test, ``N`` a number."""
    made_by: str
    read_by: str
    removed_by: str
    """Besides whoever removes the folder."""
    meaning: str

    def named(self, part: str | int = "") -> str:
        """Return the name of one, with what stands for the placeholder."""
        before, found, after = self._split()
        return f"{before}{part}{after}" if found else before

    @property
    def glob(self) -> str:
        """A pattern for ``Path.glob``."""
        return self.named("*")

    @property
    def is_mark(self) -> bool:
        """Whether the folder may be removed while it is there: nothing in it belongs to one capture."""
        return not self.pattern.startswith("NAME")

    def matches(self, name: str) -> bool:
        """Whether a file of this name is one of these."""
        before, found, after = self._split()
        return name.startswith(before) and name.endswith(after) if found else name == before

    def _split(self) -> tuple[str, str, str]:
        for word in _PLACEHOLDERS:
            if word in self.pattern:
                return self.pattern.partition(word)
        return self.pattern, "", ""


_COLLECTOR, _LAUNCHER, _WAITING = "collector", "launcher", "waiting process"

STATE: Final = RunFile(
    "NAME.json",
    _LAUNCHER,
    _WAITING,
    f"{_COLLECTOR}, {_WAITING}",
    "the state of a capture: what it is about, how far it is, how it ended; locked while its collector lives",
)
LOG: Final = RunFile(
    "NAME.log",
    _LAUNCHER,
    _WAITING,
    f"{_COLLECTOR}, {_WAITING}",
    "what its collector wrote to its standard error",
)
DIAGNOSIS: Final = RunFile(
    "NAME.txt", _COLLECTOR, _WAITING, f"{_COLLECTOR}, {_WAITING}", "the diagnosis: trigger and stacks"
)
WORK: Final = RunFile(
    "NAME/",
    _LAUNCHER,
    _COLLECTOR,
    f"{_COLLECTOR}, {_WAITING}",
    "the working directory of its snapshot; the kernel's core goes there with a relative `core_pattern`, and "
    "any core without the extension",
)
CLAIM: Final = RunFile(
    "claim-HASH",
    _LAUNCHER,
    f"{_LAUNCHER}, {_WAITING}",
    "collector of a capture that failed",
    "a captured test; a byte in it for each further capture of it that was refused",
)
QUOTA: Final = RunFile(
    "slot-N",
    _LAUNCHER,
    _LAUNCHER,
    "collector of a capture that failed",
    "one of the captures that the run may make",
)
REFUSED_LIMIT: Final = RunFile(
    "refused-limit", _LAUNCHER, _WAITING, "", "a byte for each capture refused because of their number"
)
REFUSED_FULL: Final = RunFile(
    "refused-full", _LAUNCHER, _WAITING, "", "a byte for each capture refused because of the archives' size"
)
FULL: Final = RunFile("full", _COLLECTOR, _LAUNCHER, "", "the archives are as large as they may be")
SEEN: Final = RunFile(
    "seen-NAME",
    _WAITING,
    _COLLECTOR,
    "",
    "a report names this archive, of a capture at a deadline; its collector need not report it",
)
DROP: Final = RunFile("drop-NAME", _WAITING, _COLLECTOR, "", "this archive is not wanted any more")
FAILURE: Final = RunFile(
    "failure-NAME",
    _WAITING,
    _COLLECTOR,
    "",
    "the text of the failure that was captured when it was raised; the collector waits for it",
)
REPORTED: Final = RunFile(
    "reported",
    _WAITING,
    _COLLECTOR,
    "",
    "no report comes any more: what still waits for its failure is dropped",
)
COLLECTOR_SLOT: Final = RunFile(
    "collector-N", _COLLECTOR, _COLLECTOR, "", "locked by a collector at work; others of the run wait"
)
UPLOAD_SLOT: Final = RunFile(
    "upload-N", _COLLECTOR, _COLLECTOR, "", "locked by a collector that uploads; others of the run wait"
)
STORE: Final = RunFile(
    "store",
    _COLLECTOR,
    _COLLECTOR,
    "",
    "the store has failed, and that was told: others try once until one succeeds",
)
UPLOADED: Final = RunFile(
    "uploaded", _COLLECTOR, _COLLECTOR, "", "the archives of libraries that are in the store, a line each"
)
BUDGET: Final = RunFile(
    "budget", _COLLECTOR, _COLLECTOR, "", "locked by the collector that adds up the sizes of the archives"
)
LIBRARIES: Final = RunFile(
    "libraries",
    _COLLECTOR,
    _COLLECTOR,
    "",
    "the archives of libraries that the run shares, a line of JSON each; locked while one is written",
)
ANSWER: Final = RunFile(
    "answer-N",
    _COLLECTOR,
    _COLLECTOR,
    _COLLECTOR,
    "a FIFO in which process N, a child of the captured process, tells where it stands",
)
ASKED_TO_DUMP: Final = RunFile(
    "answer-N.dump",
    _COLLECTOR,
    "process N",
    _COLLECTOR,
    "process N shall capture itself when it is asked where it stands",
)
STARTED: Final = RunFile(
    "started-N",
    "process N",
    f"{_WAITING}, children of process N",
    "process N",
    "the test that process N has begun last, in slots; locked while it lives; a killed run leaves it",
)
CHILDREN: Final = RunFile(
    "children-N",
    "process N",
    "children of process N",
    "process N",
    "with what children of process N that run Python arm themselves",
)
JUNIT: Final = RunFile(
    "junit", _COLLECTOR, _COLLECTOR, "", "which junit XML collectors have written in place of pytest; locked"
)
CI: Final = RunFile(
    "ci",
    f"{_COLLECTOR}, {_WAITING}",
    f"{_COLLECTOR}, {_WAITING}",
    "",
    "of which captures a CI system was told, and how; locked while one tells it",
)
CLOSED: Final = RunFile(
    "closed", f"{_WAITING}, {_COLLECTOR}", _COLLECTOR, "", "no process waits any more: collectors clean up"
)

FILES: Final = (
    STATE,
    LOG,
    DIAGNOSIS,
    WORK,
    CLAIM,
    QUOTA,
    REFUSED_LIMIT,
    REFUSED_FULL,
    FULL,
    SEEN,
    DROP,
    FAILURE,
    REPORTED,
    COLLECTOR_SLOT,
    UPLOAD_SLOT,
    STORE,
    UPLOADED,
    BUDGET,
    LIBRARIES,
    ANSWER,
    ASKED_TO_DUMP,
    STARTED,
    CHILDREN,
    JUNIT,
    CI,
    CLOSED,
)
OF_A_CAPTURE: Final = (STATE, LOG, DIAGNOSIS)
"""Those that belong to one capture, besides its folder."""


ARCHIVE_SUFFIX: Final = ".tar.gz"


def text_name(name: str) -> str:
    """Return what the file is called that has the answer and the stacks, beside the archive ``name``."""
    return f"{name}.txt"


def page_name(name: str) -> str:
    """Return what the page for the browser is called, beside the archive ``name``."""
    return f"{name}.html"


def text_beside(archive: Path) -> Path:
    """Return the file that has the answer and the stacks of an archive as text; it need not be there."""
    return archive.with_name(text_name(archive.name.removesuffix(ARCHIVE_SUFFIX)))


def page_beside(archive: Path) -> Path:
    """Return the file that has the page of an archive; it need not be there."""
    return archive.with_name(page_name(archive.name.removesuffix(ARCHIVE_SUFFIX)))


def find_size(path: Path) -> int | None:
    """Return the size of a file, None if there is none; a link that somebody put there is none."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def remove_text(path: Path) -> None:
    """Remove the file of that name, if it is there and can be removed."""
    with contextlib.suppress(OSError):
        path.unlink()


def shared_name(name: str) -> str:
    """Return what the archive of libraries is called that the collector of the archive ``name`` writes."""
    return f"libraries_{name.removeprefix('core_')}"


def partial_name(name: str) -> str:
    """Return what the archive ``name`` is called until it is finished."""
    return f"{name}.tar.gz{PARTIAL_SUFFIX}"
