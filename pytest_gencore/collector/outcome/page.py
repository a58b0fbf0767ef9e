"""Let the captured run's Python make the page of an archive: the collector itself has no jinja2."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.log import log
from pytest_gencore.texts import printable

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.collector.source.handover import Handover

_SECONDS: Final = 20.0
_MEMORY: Final = 1 << 30
_FILE_SIZE: Final = 64 << 20
_OUTPUT: Final = 64 << 10


def wants_page(handover: Handover) -> bool:
    """Tell whether an archive gets a page: never a sealed one, whose contents no page may show."""
    run = handover.context.run
    is_archive = handover.context.request.product == "archive"
    return bool(is_archive and run.session.page_command and run.session.has_clear_text and not run.recipients)


def make_page(handover: Handover, archive: Path) -> str:
    """Make the page beside a finished archive in at most 20 s; return why there is none, empty if there is.

    Never raises. Our priority, which is low, is that of the program, too.
    """
    from pytest_gencore.sandbox.bounded import run_bounded  # few captures need it
    from pytest_gencore.sandbox.limits import Limits, limited

    command = [*handover.context.run.session.page_command, "report", "--", str(archive)]
    limits = Limits(memory=_MEMORY, cpu_seconds=int(_SECONDS), file_size=_FILE_SIZE)
    try:
        ended = run_bounded(
            limited(command, limits),
            seconds=_SECONDS,
            output_limit=_OUTPUT,
            environment=os.environ,
            directory="/",
        )
    except (OSError, ValueError) as error:
        return _tell(str(error))
    if ended.stopped == "time":
        return _tell(f"it was not finished after {_SECONDS:g} s")
    if ended.status == 0:
        return ""
    lines = ended.errors.decode(errors="replace").strip().splitlines()
    return _tell(lines[-1] if lines else f"status {ended.status}")


def _tell(reason: str) -> str:
    problem = f"no page was made: {printable(reason)}"
    log(problem)
    return problem
