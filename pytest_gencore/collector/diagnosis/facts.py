"""What the probe has written, as types; the lines themselves are described in ``pytest_gencore.probe.facts``.

They come from a process in any state: what is not as it should be is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Place(NamedTuple):
    """A line of source."""

    file: str
    line: int | None
    function: str


class Name(NamedTuple):
    """How a program refers to a resource."""

    text: str
    kind: str
    """``global``, ``attribute`` or ``local``."""
    of: str
    """The module, the class's module or the function."""


class Wait(NamedTuple):
    """What a thread or task waits for."""

    kind: str
    resource: int | None = None
    """The id of a lock, an event, a queue, a future."""
    ends_with: tuple[int, ...] = ()
    """Ids of the threads, tasks and futures whose end is awaited."""
    timeout: float | None = None
    """Seconds, as they were given; None for ever, or not known."""
    details: Mapping[str, Any] = MappingProxyType({})
    """What else the probe tells of this kind."""

    def number(self, name: str) -> int | None:
        """Return a detail that is a number; None if it is not there."""
        value = self.details.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, name: str) -> str:
        """Return a detail that is a text; empty if it is not there."""
        value = self.details.get(name)
        return value if isinstance(value, str) else ""


class Thread(NamedTuple):
    """A Python thread."""

    id: int
    name: str | None
    native_id: int | None
    is_own: bool
    """Whether it made the capture."""
    keeps_alive: bool
    """Whether it is no daemon, so that the process does not end before it does."""
    place: Place | None
    project: Place | None
    """Where the innermost frame of the project is."""
    wait: Wait | None
    frames: tuple[Place, ...] = ()
    """Innermost first; only of a thread that ``threading`` does not know."""


class Task(NamedTuple):
    """A task of asyncio or trio, or a greenlet."""

    id: int
    name: str | None
    framework: str
    """``asyncio``, ``trio`` or ``greenlet``."""
    loop: int | None
    is_current: bool
    """Whether it runs, or has called what its thread is inside of."""
    is_main: bool
    """Whether it is what ``run_until_complete`` waits for."""
    coroutine: str | None
    frames: tuple[Place, ...]
    """Outermost first."""
    wait: Wait | None
    alike: int = 0
    """How many more tasks stand where this one does."""


class Loop(NamedTuple):
    """An event loop."""

    id: int
    type: str
    thread: int | None
    main: int | None
    tasks: int
    ready: int | None
    due: tuple[str, ...]
    """Names of callbacks that are to run next."""


class Hold(NamedTuple):
    """Somebody has a resource."""

    holder: int
    is_task: bool
    place: Place | None
    """Where the ``with`` statement is."""
    times: int = 1
    """How often it was taken."""


@dataclass(slots=True)
class Facts:
    """Everything that the probe has said."""

    threads: dict[int, Thread] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    loops: dict[int, Loop] = field(default_factory=dict)
    holds: dict[int, list[Hold]] = field(default_factory=dict)
    """By resource."""
    completes: dict[int, list[tuple[str, tuple[int, ...]]]] = field(default_factory=dict)
    """By future: (``thread``, ``task``, ``future`` or ``threads``, ids)."""
    names: dict[int, Name] = field(default_factory=dict)
    gil: str | None = None
    """Who held it: ``own``, ``other``; None for nobody."""
    is_whole: bool = False
    """Whether the probe came to its end."""
    cuts: list[str] = field(default_factory=list)
    problems: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether everything was looked at, and understood."""
        return self.is_whole and not self.cuts and not self.problems

    @property
    def own(self) -> Thread | None:
        """The thread that made the capture."""
        return next((thread for thread in self.threads.values() if thread.is_own), None)
