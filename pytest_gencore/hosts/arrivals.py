"""The files that come from one host, one after the other."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, Literal

from pytest_gencore.errors import ArchiveError
from pytest_gencore.hosts.landing import Landing
from pytest_gencore.hosts.wire import is_name
from pytest_gencore.run.files import ARCHIVE_SUFFIX, SHARED_GLOB
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_gencore.hosts.budget import Budget


_BESIDE_LIMIT: Final = 32 << 20
"""Bytes of a text or a page, which the limits of a run do not count."""


@dataclass(slots=True)
class Arrival:
    """The archive of one capture, with what lies beside it."""

    size: int
    """As it was announced; 0 while unknown."""
    done: int = 0
    state: Literal["awaited", "landed", "failed"] = "awaited"
    reason: str = ""
    """Why it failed."""
    is_there: bool = True
    """Whether it may still be on the other host."""
    notes: list[str] = field(default_factory=list)
    """What did not come of the files beside it."""


class Arrivals:
    """Writes them at home; for one thread at a time."""

    def __init__(
        self,
        home: Path,
        budget: Budget,
        name_here: Callable[[str], str],
        tell_landed: Callable[[str], None],
    ) -> None:
        """``name_here`` says what an archive is called here.

        ``tell_landed`` is called with the name of each file that is at home, as it was sent.
        """
        self._home = home
        self._name_here = name_here
        self._budget = budget
        self._tell_landed = tell_landed
        self._name = ""
        self._landing: Landing | None = None
        self.all: dict[str, Arrival] = {}
        """By the names of the archives on the other host."""
        self._lost_libraries: list[str] = []
        """Why archives of libraries did not come, which those of captures refer to."""

    def expect(self, name: str, size: int) -> bool:
        """Await the archive of this name, of which so much is known; tell whether it is to be sent."""
        if name in self.all:
            return False
        arrival = self.all[name] = Arrival(size, notes=list(self._lost_libraries))
        self._fail(name, self._budget.take(size))
        return arrival.state == "awaited"

    def begin(self, name: str, size: int) -> None:
        """Take the first word of a file."""
        self.close()
        self._name = name if is_name(name) else ""
        if not self._name:
            return
        problem = self._admit(name, size)
        if problem:
            self._fail(name, problem)
            return
        with self._failing():
            self._landing = Landing(self._home / self._find_name(name), size)

    def add(self, piece: bytes) -> None:
        """Take the next piece; of a file that cannot be written it is lost."""
        if self._landing is None:
            return
        with self._failing():
            self._landing.add(piece)
            if self._name in self.all:
                self.all[self._name].done = self._landing.done

    def end(self, digest: str) -> None:
        """Take the last word of a file."""
        if self._landing is None:
            return
        with self._failing():
            self._landing.finish(digest)
        if self._landing is None:
            return
        self.close()
        if self._name in self.all:
            self.all[self._name].state = "landed"
        self._tell_landed(self._name)

    def miss(self, name: str, reason: str, *, is_there: bool) -> None:
        """Take notice that a file could not be read there."""
        if name in self.all:
            self.all[name].is_there = is_there
        self._fail(name, reason)

    def give_up(self, reason: str) -> None:
        """Await nothing more."""
        self.close()
        for name in list(self.all):
            self._fail(name, reason)

    def close(self) -> None:
        """Leave nothing of a file that is not there as a whole."""
        if self._landing is not None:
            self._landing.close()
            self._landing = None

    def _find_name(self, name: str) -> str:
        """Return the name of a file here: what lies beside an archive has that of the archive."""
        if fnmatch(name, SHARED_GLOB):
            return name
        archive = name_archive(name)
        here = self._name_here(archive).removesuffix(ARCHIVE_SUFFIX)
        return here + name.removeprefix(archive.removesuffix(ARCHIVE_SUFFIX))

    def _admit(self, name: str, size: int) -> str:
        """Count the size of a file that was not announced; return why it is not taken."""
        if fnmatch(name, SHARED_GLOB):
            return self._budget.take(size)
        arrival = self.all.get(name)
        if arrival is None:
            is_beside = size <= _BESIDE_LIMIT and name_archive(name) in self.all
            return "" if is_beside else f"nobody has asked for a file of {format_size(size)}"
        if not arrival.size:
            arrival.size = size
            return self._budget.take(size)
        return "" if size == arrival.size else f"it has {size} bytes, and not {arrival.size}"

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Note what the file of now meets, and leave nothing of it."""
        try:
            yield
        except OSError as error:
            self._fail(self._name, error.strerror or str(error))
        except ArchiveError as error:
            self._fail(self._name, str(error))

    def _fail(self, name: str, reason: str) -> None:
        """Note why a file does not come; nothing without a reason, and of one that is there."""
        if not reason:
            return
        if name == self._name:
            self.close()
        arrival = self.all.get(name)
        if arrival is not None:
            if arrival.state == "awaited":
                arrival.state, arrival.reason = "failed", reason
            return
        note = f"{name} did not come: {reason}"
        are_libraries = fnmatch(name, SHARED_GLOB)
        if are_libraries and not self._lost_libraries:  # a run on a host has one
            self._lost_libraries.append(note)
        for archive, beside in self.all.items():
            is_its_own = archive == name_archive(name)
            if (is_its_own or (are_libraries and beside.state == "awaited")) and note not in beside.notes:
                beside.notes.append(note)


def name_archive(name: str) -> str:
    """Return the archive that a file is, or lies beside."""
    return name if name.endswith(ARCHIVE_SUFFIX) else PurePath(name).stem + ARCHIVE_SUFFIX
