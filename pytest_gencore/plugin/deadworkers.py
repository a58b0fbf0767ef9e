"""Workers of an xdist run that died: find what was captured of them, and tell it on the crash report."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

from pytest_gencore.plugin import attach
from pytest_gencore.plugin.attach import SECTION, Attachment
from pytest_gencore.plugin.lostworkers import find_process
from pytest_gencore.triggers import HANDLED

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pytest_gencore.run.opening import AnyRun
    from pytest_gencore.run.outcome import Outcome

ANSWER_SECONDS = 10.0
"""How long the controller waits for the first words of a collector, which come after some 0.2 s."""
TICK_SECONDS = 0.05
EXIT_SECONDS = 5.0


class DeadWorkers:
    """Captures that no report of a worker has named."""

    def __init__(
        self, run: AnyRun, describe_kill: Callable[[Any], str], find_host: Callable[[Any], str]
    ) -> None:
        """``describe_kill`` says why a worker died of SIGKILL, empty if nothing is known.

        ``find_host`` says on which other host a worker was, and where captures are there.
        """
        self._find_host = find_host
        self._describe_kill = describe_kill
        self._run = run
        self._captures: dict[str, list[Outcome]] = {}
        self._by_test: dict[str, Outcome] = {}
        """The captures of tests that other workers may run, and die in, again."""
        self._reasons: dict[str, str] = {}

    def add(self, worker_id: str, node: Any, reported: set[str]) -> None:
        """Look for the captures of a worker that has just died; ``reported`` are the paths reports named."""
        known = [outcome for outcome in self._wait_for_answers() if outcome.trigger in HANDLED]
        captures = [
            outcome
            for outcome in known
            if outcome.worker_id == worker_id
            and outcome.state != "dropped"
            and str(outcome.archive) not in reported
        ]
        for outcome in known:
            if outcome.nodeid is not None and not outcome.child_of and outcome.state in {"working", "done"}:
                self._by_test.setdefault(outcome.nodeid, outcome)
        self._captures[worker_id] = captures
        if not captures:
            status = find_exit_status(node)
            killed = self._describe_kill(node) if status == -signal.SIGKILL else ""
            reason = f"the worker: {killed}" if killed else describe_end(status)
            host = self._find_host(node)
            self._reasons[worker_id] = f"{reason} (on {host})" if host else reason

    def attach(self, worker_id: str, report: pytest.TestReport) -> None:
        """Put on the report of a crashed test what there is; junit takes only the text of such a report."""
        captures = [
            outcome
            for outcome in self._captures.get(worker_id, ())
            if outcome.nodeid is None or outcome.nodeid == report.nodeid
        ]
        report.gencore_crash = str(report.longrepr)  # type: ignore[attr-defined]
        lines = [str(report.longrepr)]
        for outcome in captures:
            path = str(outcome.archive)
            self._run.acknowledge(outcome.archive.name.removesuffix(".tar.gz"))
            attachment = Attachment(
                path=path,
                trigger=outcome.trigger or "crash",
                method=outcome.method,
                pid=outcome.captured_pid,
                phase=outcome.phase,
                url=outcome.url,
            )
            report.gencore = [*getattr(report, "gencore", []), attachment]  # type: ignore[attr-defined]
            report.user_properties += attach.make_properties(path, outcome.url)
            is_failed = outcome.state == "failed"
            line = attach.describe_failure(outcome.reason) if is_failed else attach.describe_archive(path)
            lines += [f"{SECTION}: {line}", outcome.answer.rstrip("\n")]
        reason = self._reasons.get(worker_id)
        before = self._by_test.get(report.nodeid)
        if not captures and before is not None:
            path = str(before.archive)
            report.user_properties += attach.make_properties(path, before.url)
            lines.append(f"{SECTION}: {attach.describe_archive(path)}")
            lines.append(f"{SECTION}: not captured again: {before.worker_id} made this archive")
        elif reason:
            lines.append(f"{SECTION}: {attach.describe_failure(reason)}")
        report.longrepr = "\n".join(line for line in lines if line)

    def _wait_for_answers(self) -> list[Outcome]:
        """Wait until every collector at work has said what it is about."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            outcomes = self._run.outcomes()
            silent = any(outcome.state == "working" and not outcome.answer for outcome in outcomes)
            if not silent or time.monotonic() > deadline:
                return outcomes
            time.sleep(TICK_SECONDS)


def find_exit_status(node: Any) -> int | None:
    """Return how a worker on this machine ended, None if that cannot be known."""
    try:
        status = find_process(node).wait(EXIT_SECONDS)
    except Exception:  # noqa: BLE001 - private: whatever it has become
        return None
    return status if isinstance(status, int) else None


def describe_end(status: int | None) -> str:
    """Return why there is no archive of a worker that ended like this."""
    if status is None:
        return "no capture of the worker was found, and its exit status is not known"
    if status == -signal.SIGKILL:
        return "the worker was killed by SIGKILL, which no handler sees"
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        return f"the worker died of {name} without a capture; a reason, if known, is on standard error"
    return f"the worker ended with status {status}, not by a signal"
