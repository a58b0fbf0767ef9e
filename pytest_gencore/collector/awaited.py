"""Wait for the report of a failure that was captured when it was raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.abort import CaptureDropped
from pytest_gencore.run.files import FAILURE, REPORTED
from pytest_gencore.run.pinned import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_gencore.collector.source.captured_process import CapturedProcess
    from pytest_gencore.collector.source.handover import Handover

_POLL_SECONDS: Final = 0.05
_TEXT_LIMIT: Final = 64 << 20


def await_failure(handover: Handover, process: CapturedProcess, check: Callable[[], None]) -> Handover:
    """Return the hand-over with the failure's text; without one if the process has ended before its report.

    ``check`` is called meanwhile; it raises CaptureDropped if the exception was caught. So does this if no
    report comes any more.
    """
    text = await_text(handover.run_folder, handover.name, process, check)
    if text is None:
        return handover
    context = handover.context
    request = context.request._replace(failure_text=text)
    return handover._replace(context=context._replace(request=request))


def await_text(folder: Path, name: str, process: CapturedProcess, check: Callable[[], None]) -> str | None:
    """Return the failure's text, None if the process has ended before its report; otherwise the same."""
    path = folder / FAILURE.named(name)
    while not path.exists():
        check()
        if process.has_ended(_POLL_SECONDS):  # first: the end of a worker is that of its reports
            break
        if (folder / REPORTED.named()).exists() and not path.exists():  # which may have come before it
            raise CaptureDropped("dropped")
    try:
        return read_regular(path, _TEXT_LIMIT).decode(errors="replace")
    except OSError:
        return None
