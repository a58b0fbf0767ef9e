"""The captures of a run on several hosts, as one run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pytest_gencore.run.folder import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_gencore.hosts.host import Host
    from pytest_gencore.run.opening import AnyRun
    from pytest_gencore.run.outcome import Outcome

_TICK_SECONDS = 0.5


class RunOfHosts:
    """A run like that of one host: see ``Run``."""

    def __init__(self, local: AnyRun, hosts: Sequence[Host]) -> None:
        self._local = local
        self._hosts = hosts

    def outcomes(self) -> list[Outcome]:
        """Return the state of every capture of the run."""
        return [*self._local.outcomes(), *self._look()]

    def find_problem(self) -> str:
        """Return why nothing can be known of captures."""
        problems = (self._local.find_problem(), *(host.find_problem() for host in self._hosts))
        return "; ".join(filter(None, problems))

    def wait(
        self, *, progress: Callable[[list[Outcome]], None] | None = None, timeout: float | None = None
    ) -> list[Outcome]:
        """Wait until no collector is at work, and all archives are here, at most ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        shown_at = -_TICK_SECONDS
        for host in self._hosts:
            host.begin_wait()

        def show(local: list[Outcome]) -> None:
            nonlocal shown_at
            if progress is not None and time.monotonic() >= shown_at + _TICK_SECONDS:
                shown_at = time.monotonic()
                progress([*local, *self._look()])

        local = self._local.wait(progress=show, timeout=timeout)
        for host in self._hosts:
            host.wait_until_open()
        while working := [host for host in self._hosts if host.is_at_work()]:
            if deadline is not None and time.monotonic() >= deadline:
                self._give_up("it was not waited for")
                break
            show(local)
            for host in working:
                host.wait(_TICK_SECONDS)
        return [*local, *self._look()]

    def wait_for(self, name: str) -> Outcome:
        """Wait for a capture of this host."""
        return self._local.wait_for(name)

    def drop(self, name: str) -> None:
        """Give up a capture of this host."""
        self._local.drop(name)

    def tell_failure(self, name: str, text: str) -> None:
        """Say that a report wants a capture of this host."""
        self._local.tell_failure(name, text)

    def end_reports(self) -> None:
        """Say that no report comes any more."""
        self._local.end_reports()
        for host in self._hosts:
            host.send("end")

    def acknowledge(self, name: str) -> None:
        """Say that a report names the archive of this name."""
        if any(host.acknowledge(name) for host in self._hosts):
            return
        self._local.acknowledge(name)

    def refusals(self) -> Refusals:
        """Return how many captures were refused."""
        all_of_them = [self._local.refusals(), *(host.refusals() for host in self._hosts)]
        return Refusals(*map(sum, zip(*all_of_them, strict=True)))

    def cancel(self) -> list[Outcome]:
        """End the collectors at work, and await nothing from other hosts."""
        for host in self._hosts:
            host.send("cancel")
        local = self._local.cancel()
        self._give_up("interrupted")
        return [*local, *self._look()]

    def close(self) -> None:
        """Remove the hidden folders, and end the connections."""
        self._local.close()
        for host in self._hosts:
            host.close()

    def _look(self) -> list[Outcome]:
        return [outcome for host in self._hosts for outcome in host.look()]

    def _give_up(self, reason: str) -> None:
        for host in self._hosts:
            host.give_up(reason)
