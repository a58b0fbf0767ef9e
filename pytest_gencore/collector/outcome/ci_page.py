"""Tell the CI system when the test process cannot."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gencore.collector.source.handover import Handover


def is_sent_by_collectors(handover: Handover) -> bool:
    """Whether a program tells the system, which is no child for a process that runs tests."""
    session = handover.context.run.session
    if not session.ci or not session.is_local or session.is_controller:
        return False
    from pytest_gencore.ci.systems import Target

    return Target(*session.ci).is_program


def tell_ci(handover: Handover, *, without_own: bool, with_problem: bool) -> list[str]:
    """Tell of the captures of the run that will stay; return lines for the log, with what went wrong or not.

    ``without_own``: what this capture says is what others say.
    """
    run = handover.context.run
    if not run.session.ci:
        return []
    from pytest_gencore.ci.captures import describe, is_told
    from pytest_gencore.ci.systems import Target
    from pytest_gencore.ci.telling import RunPlace, tell
    from pytest_gencore.run.folder import run_id_of
    from pytest_gencore.run.run import Run

    place = RunPlace(handover.run_folder, run.run_folder, handover.directory)
    captures, may_go = [], set()
    for outcome in Run(handover.directory, run_id_of(run.run_folder)).outcomes():
        is_own = outcome.archive.name.removesuffix(".tar.gz") == handover.name
        if is_told(outcome) and not (is_own and without_own):
            captures.append(describe(outcome, is_sealed=bool(run.recipients)))
            if outcome.state == "working" and outcome.trigger == "failure" and not is_own:
                may_go.add(outcome.archive.name)
    target = Target(*run.session.ci)
    environ = _read_environment(handover.pid) if target.is_program else {}
    told = tell(place, target, captures, may_go=may_go, environ=environ)
    return [*told.lines, f"gencore: {told.problem}"] if told.problem and with_problem else told.lines


@functools.cache
def _read_environment(pid: int) -> dict[str, str]:
    """Return the environment that the captured process began with: the agent needs it, and we have none.

    It is read while that process is there.
    """
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "surrogateescape").split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
