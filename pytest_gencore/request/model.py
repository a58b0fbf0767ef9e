"""What a capture is asked to do, and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_gencore.contents import DumpType, Libraries, limit_filter

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.methods import Method
    from pytest_gencore.triggers import Trigger

Threads = Literal["all", "calling"]
Moment = Literal["report", "raise"]
"""When a failure is captured."""

Children = Literal["watch", "none", "dump"]
"""What is done about child processes; ``dump``: they are captured with their parent."""

SLOW_PART = 1 / 3
"""Of the time that a test may take, after which it is told of."""
SlowNotice = Literal["auto", "on", "off"]
"""When tests are told of that are on the way to their deadline; ``auto``: unless pytest is quiet."""

DeadlineSource = Literal["gencore", "pytest-timeout", "gencore-session"]
"""Who set a deadline; ``gencore-session``: it is one without progress of the run."""

BETWEEN_TESTS, SESSION_END = "between tests", "session end"
"""Places where a worker of pytest-xdist waits for its controller, and where it has run its tests."""
AFTER_SESSION = "after the session"
"""How a place begins where the run is over, and the process should end."""

CORE_FILTER_DEFAULT = 0xFF
"""``coredump_filter`` bits of core(5): everything that can be dumped except DAX."""


class CaptureRequest(NamedTuple):
    """One capture, asked for."""

    trigger: Trigger
    method: Method = "auto"
    threads: Threads = "all"
    core_filter: int = CORE_FILTER_DEFAULT
    """Bits of ``coredump_filter``, see core(5); ``type`` may leave fewer."""
    type: DumpType = "full"
    """How much of the process the archive holds."""
    libraries: Libraries = "each"
    """Whether the executable and the libraries are in the archive, or in one that the run shares."""
    nodeid: str | None = None
    phase: str | None = None
    """``setup``, ``call`` or ``teardown``."""
    place: str = ""
    """Where in or outside of the test, in words: ``session fixture 'db' of conftest.py:3``, ``collection of
    test_a.py``; empty if test and phase say it."""
    attempt: int = 1
    """1 for the first run of the test, one more for each rerun."""
    worker_id: str | None = None
    """Name of the xdist worker (``gw0``), None without xdist."""
    once_a_worker: bool = False
    """Whether the test may be captured once by each worker (``--dist each``), not once in all."""
    deadline_seconds: float | None = None
    """How long the test was allowed to take, for trigger ``timeout``."""
    deadline_source: DeadlineSource | None = None
    """Who set it."""
    grace_seconds: float = 0
    """How long the process of a cancelled run waits for its archive, for trigger ``cancel``."""
    interrupt_after: float = 0
    """What SIGINT cancels earlier than that after it began gets no archive, in seconds; likewise."""
    memory: str = ""
    """How much of which limit is used, and by whom, in words, for trigger ``memory``."""
    child_of: int = 0
    """The armed process, if a child of it captures itself; else 0."""
    dumps_children: bool = False
    """Whether children that can do so shall capture themselves, too."""
    exception: str | None = None
    """Type of the failure: ``AssertionError``, ``package.module.Error``."""
    failure_text: str | None = None
    """The failure as pytest prints it, with locals; becomes ``failure.txt``."""
    failure_frames: tuple[tuple[str, int, str], ...] = ()
    """Where the failure was raised: file, line and function of each frame, the innermost last.

    The thread's own stack is unwound by then.
    """
    moment: Moment = "report"
    """``raise``: the text of the failure comes later, if a report wants the capture: ``Run.tell_failure``."""
    product: Literal["archive", "core"] = "archive"
    """``core``: only the core file, named like the archive without ``.tar.gz``, of whatever type."""

    @property
    def has_core(self) -> bool:
        """Whether a core is made of the snapshot."""
        return self.product == "core" or self.type != "text"

    @property
    def has_libraries(self) -> bool:
        """Whether the executable and the libraries are wanted with it."""
        return self.has_core and self.libraries != "none" and not self.is_mini

    @property
    def shares_libraries(self) -> bool:
        """Whether they are wanted in an archive of their own."""
        return self.has_libraries and self.libraries == "once"

    @property
    def is_mini(self) -> bool:
        """Whether the core has only the pages that stacks need."""
        return self.product == "archive" and self.type == "mini"

    @property
    def effective_filter(self) -> int:
        """``coredump_filter`` of the snapshot."""
        return self.core_filter if self.product == "core" else limit_filter(self.type, self.core_filter)


class Capture(NamedTuple):
    """A capture under way: the snapshot exists, a collector is at work on its archive."""

    archive: Path
    """Where the finished archive will be; until then it is ``archive`` + ``.partial``."""
    pid: int
    """The captured process."""
    trigger: Trigger
    method: Method

    @property
    def name(self) -> str:
        """The archive's without ``.tar.gz``: by it the run knows the capture."""
        return self.archive.name.removesuffix(".tar.gz")
