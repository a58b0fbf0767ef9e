"""The failures that pytest would show at the end of the run, for a process that does not get there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_gencore.texts import printable

if TYPE_CHECKING:
    from pytest_gencore.junit.journal import Failure, Journal

_FAILURES_SHOWN: Final = 20
_LINES_SHOWN: Final = 60
_LINE_LENGTH: Final = 400


def describe_failures(journal: Journal | None, nodeid: str | None, *, with_text: bool = True) -> list[str]:
    """Return a line for each failure, and the whole text of those of the captured test; else only names."""
    failures = [] if journal is None or journal.is_finished else list(journal.failures())
    if not failures:
        return []
    lines = ["gencore: failures that pytest has not shown yet:"]
    for failure in failures[:_FAILURES_SHOWN]:
        message = ": " + failure.case.message.partition("\n")[0] if with_text else ""
        lines.append(printable(f"  {failure.nodeid} ({failure.phase}){message}", _LINE_LENGTH))
    if len(failures) > _FAILURES_SHOWN:
        lines.append(f"  ... and {len(failures) - _FAILURES_SHOWN} more")
    for failure in failures:
        if failure.nodeid == nodeid and with_text:
            lines += _make_text(failure)
    return lines


def _make_text(failure: Failure) -> list[str]:
    """Return the text from its end: there is what was raised."""
    lines = failure.case.text.splitlines()
    shown = [printable(line, _LINE_LENGTH) for line in lines[-_LINES_SHOWN:]]
    left_out = len(lines) - len(shown)
    title = f"gencore: the failure in the {failure.phase} of {failure.nodeid}:"
    return [printable(title, _LINE_LENGTH), *([f"... {left_out} lines left out"] if left_out else []), *shown]
