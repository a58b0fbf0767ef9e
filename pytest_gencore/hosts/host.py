"""The controller's view of another host: what was captured there, and how its archives come home."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.hosts.arrivals import Arrivals
from pytest_gencore.hosts.connection import Connection
from pytest_gencore.hosts.home import leave_token, look_here
from pytest_gencore.hosts.wire import decode, is_name
from pytest_gencore.run.files import ARCHIVE_SUFFIX
from pytest_gencore.run.folder import Refusals
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gencore.hosts.budget import Budget
    from pytest_gencore.run.outcome import Outcome

CONNECT_SECONDS: Final = 30.0
SILENCE_SECONDS: Final = 30.0
"""Longest time between two words of an agent that is asked twice a second: then its connection is lost."""
_LOOK_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 5.0


class Host:
    """One host, and the captures of all workers that run there in one directory."""

    def __init__(
        self, name: str, specs: Sequence[str], paths: Sequence[str], home: Path, budget: Budget
    ) -> None:
        """``name`` is for people; ``home`` is the artifact directory here; others as for ``Connection``."""
        self.name = name
        self.specs = specs
        self.directory = ""
        """The artifact directory there."""
        self.run_id = ""
        self.is_shared = False
        """Whether that is the one here."""
        self._home = home
        self._token: Path | None = None
        """A file in the artifact directory, until the agent has looked for it there."""
        self._budget = budget
        self._arrivals = Arrivals(home, budget, self.name_here, lambda file: self._send("landed", file))
        self._connection = Connection(specs, paths, self._take)
        self._changed = threading.Condition()
        self._is_open = self._is_armed = False
        self._is_answering = False
        self._problem = ""
        """Why nothing more comes."""
        self._is_closed = False
        self._asked, self._seen = 0, 0
        self._heard = 0.0
        self._outcomes: list[Outcome] = []
        self._named: dict[str, Outcome] = {}
        """What reports have said of captures, by the names of the archives there."""
        self._names_here: dict[str, str] = {}
        self._forgotten: set[str] = set()
        """Those of them that no report has named: the run there knew them."""
        self._run_problem = ""
        self._refusals = Refusals(0, 0, 0)

    def plan(self, directory: str, run_id: str, *, is_armed: bool) -> None:
        """Say where captures will be, and in which run, if the agent does not say so itself.

        ``is_armed``: there may be some that no report names.
        """
        self.directory, self.run_id, self._is_armed = directory, run_id, is_armed

    def open(self) -> None:
        """Begin to connect, once."""
        if not self._is_open:
            self._is_open = True
            self._heard = time.monotonic()
            self._token = leave_token(self._home)
            token = "" if self._token is None else self._token.name
            self._connection.open("start", str(self._home), self.directory, token, self.run_id)

    def wait_until_open(self) -> str:
        """Wait for the agent's first word; return why there is none."""
        with self._changed:
            if not self._is_open:
                return ""
            self._changed.wait_for(lambda: self._is_answering or self._problem, CONNECT_SECONDS)
            if not (self._is_answering or self._problem):
                self._end(f"no answer within {CONNECT_SECONDS:.0f} s")
            return self._problem

    def name_here(self, name: str) -> str:
        """Return what an archive of this host is called here; no two of the run have one name."""
        with self._changed:
            if name not in self._names_here:
                self._names_here[name] = self._budget.choose_name(name)
            return self._names_here[name]

    def name_there(self, name: str) -> str:
        """Return what an archive is called there that has this name here; itself if it is not known yet."""
        with self._changed:
            return next((there for there, here in self._names_here.items() if here == name), name)

    def expect(self, outcome: Outcome) -> None:
        """Take notice of a capture that a report names, as it is called there; waits for nothing."""
        self._named.setdefault(outcome.archive.name, outcome)
        if outcome.trigger == "request":
            self._send("look", 0)

    def look(self) -> list[Outcome]:
        """Return the state of every capture there, with the paths that archives have, or will have, here."""
        with self._changed:
            if self._is_answering and not self._problem:
                self._asked += 1
                number = self._asked
                self._send("look", number)
                self._changed.wait_for(lambda: self._seen >= number or self._problem, _LOOK_SECONDS)
                known = {outcome.archive.name for outcome in self._outcomes}
                if self._seen >= number:  # what no run there knows may be there all the same
                    for name in self._named.keys() - known:
                        self._fetch(self._named[name])
                        if self.is_shared:
                            self._named[name] = look_here(self._named[name])
            return self._settle()

    def is_at_work(self) -> bool:
        """Whether an archive is being written there, or is on its way."""
        return any(outcome.state == "working" for outcome in self.look())

    def acknowledge(self, name: str) -> bool:
        """Say that a report names the archive of this name, without its suffix, if it is one of this host."""
        with self._changed:
            there = {outcome.archive.name for outcome in self._outcomes}
            found = [other for other in there if self.name_here(other) == name + ARCHIVE_SUFFIX]
            for other in found:
                self._send("seen", other.removesuffix(ARCHIVE_SUFFIX))
            return bool(found)

    def send(self, word: str, argument: Any = None) -> None:
        """Pass on what is done with the run."""
        self._send(word, argument)

    def refusals(self) -> Refusals:
        """Return how many captures were refused there."""
        return self._refusals

    def find_problem(self) -> str:
        """Return why it is not known what became of captures there."""
        return f"{self._run_problem} (on {self.name})" if self._run_problem else ""

    def find_lost_connection(self) -> str:
        """Return why what was captured there and not told before is not known; empty if it is."""
        return self._problem

    def begin_wait(self) -> None:
        """Connect now at the latest, if there can be captures; count how long the agent says nothing."""
        if self._is_armed or self._named:
            self.open()
        self._heard = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Wait until something is news, at most so long; a connection that is silent for too long is lost."""
        with self._changed:
            self._changed.wait(seconds)
            if not self._problem and time.monotonic() - self._heard > SILENCE_SECONDS:
                self._end(f"it has said nothing for {SILENCE_SECONDS:.0f} s")

    def give_up(self, reason: str) -> None:
        """Await nothing more."""
        with self._changed:
            self._end(reason)

    def close(self) -> None:
        """Let the agent tidy up, and end it."""
        if not self._is_open:
            return
        with self._changed:
            if self._connection.send("close"):
                self._changed.wait_for(lambda: self._is_closed, _CLOSE_SECONDS)
            self._end("it is closed")
        self._connection.close()

    def _send(self, *message: Any) -> None:
        self._connection.send(*message)

    def _end(self, reason: str) -> None:
        self._remove_token()
        if not self._problem:
            self._problem = reason
            self._arrivals.give_up(reason)
            self._changed.notify_all()

    def _take(self, message: tuple[Any, ...] | None) -> None:
        """Take a message, on a thread of execnet, which an exception would end."""
        with self._changed:
            try:
                self._heard = time.monotonic()
                if message is None:
                    self._is_closed = True
                    self._end("the connection ended")
                elif not self._problem or message[0] == "closed":
                    self._obey(*message)
            except Exception as error:  # noqa: BLE001 - whatever the other end says
                self._end(f"unexpected {type(error).__name__}: {error}")
            self._changed.notify_all()

    def _obey(self, word: str, *arguments: Any) -> None:
        if word == "hello":
            self._remove_token()
            run_id, directory, self.is_shared = arguments
            self.run_id, self.directory = str(run_id), escape_unprintable(str(directory))
            self._is_answering = True
        elif word == "refused":
            self._end(escape_unprintable(str(arguments[0])))
        elif word == "seen":
            self._note_outcomes(*arguments)
        elif word == "file":
            self._arrivals.begin(*arguments)
        elif word == "piece":
            self._arrivals.add(*arguments)
        elif word == "end":
            self._arrivals.end(*arguments)
        elif word == "unread":
            name, reason, is_there = arguments
            self._arrivals.miss(name, escape_unprintable(str(reason)), is_there=is_there)
        elif word == "closed":
            self._is_closed = True

    def _note_outcomes(self, number: int, outcomes: list[Any], problem: str, refusals: Sequence[int]) -> None:
        before = self._outcomes
        self._outcomes = [decode(fields, self._home) for fields in outcomes]
        self._run_problem = escape_unprintable(problem)
        self._refusals = Refusals(*map(int, refusals))
        known = {outcome.archive.name for outcome in self._outcomes} | self._named.keys()
        for outcome in before:  # when the last process of the run there is gone, so is what the run knew
            if outcome.archive.name not in known and outcome.state in {"working", "done"}:
                self._named[outcome.archive.name] = outcome
                self._forgotten.add(outcome.archive.name)
        self._seen = max(self._seen, number)
        for outcome in self._outcomes:
            if outcome.state in {"done", "failed"}:
                self._fetch(outcome)
        for outcome in list(self._named.values()):
            if outcome.trigger == "request":  # its test has waited for it, and no run has it
                self._fetch(outcome)

    def _fetch(self, outcome: Outcome) -> None:
        """Have the files of a capture sent, once; also those of one that failed may be worth it."""
        name = outcome.archive.name
        if not self.is_shared and is_name(name) and self._arrivals.expect(name, outcome.size_bytes):
            self._send("send", name)

    def _settle(self) -> list[Outcome]:
        outcomes = {outcome.archive.name: self._describe(outcome) for outcome in self._outcomes}
        for name, outcome in list(self._named.items()):
            if name not in outcomes:
                outcomes[name] = self._describe(outcome)
        return [
            outcome._replace(archive=outcome.archive.with_name(self.name_here(name)))
            for name, outcome in outcomes.items()
        ]

    def _remove_token(self) -> None:
        if self._token is not None:
            with contextlib.suppress(OSError):
                self._token.unlink()
            self._token = None

    def _describe(self, outcome: Outcome) -> Outcome:
        """Return what a capture comes to here."""
        arrival = self._arrivals.all.get(outcome.archive.name)
        is_coming = arrival is not None and arrival.state == "awaited"
        if outcome.state == "failed" and not is_coming:  # its text may be all that there is
            return outcome._replace(reason=f"{outcome.reason} (on {self.name})")
        if outcome.state == "dropped" or (self.is_shared and outcome.state == "done"):
            return outcome
        if arrival is not None and arrival.state == "landed":
            notes = filter(None, (outcome.reason, *arrival.notes))
            return outcome._replace(state="done", reason="; ".join(notes), size_bytes=arrival.size)
        place = f"{self.name}:{self.directory}/{outcome.archive.name}"
        if arrival is not None and arrival.state == "failed":
            if outcome.archive.name in self._forgotten and not arrival.is_there:  # nobody wanted it
                return outcome._replace(state="dropped")
            reason = f"the archive stays at {place}: {arrival.reason}"
            if not arrival.is_there:
                reason = f"there is no archive at {place}: {arrival.reason}"
            outcome = outcome._replace(state="failed", reason=reason)
        elif self._problem:
            outcome = outcome._replace(
                state="failed", reason=f"the archive is, or will be, at {place}: {self._problem}"
            )
        elif arrival is not None:
            done, total = arrival.done, arrival.size
            outcome = outcome._replace(state="working", bytes_done=done, bytes_total=total)
        return outcome
