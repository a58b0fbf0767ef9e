"""What one capture came to, and its words for report and summary."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gencore.plugin import attach
from pytest_gencore.texts import name_subject
from pytest_gencore.triggers import HANDLED
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.run.outcome import Outcome
    from pytest_gencore.texts import Folders


@dataclass(frozen=True, slots=True)
class Subject:
    """What was captured, for people."""

    nodeid: str | None
    phase: str | None
    place: str = ""

    def __str__(self) -> str:
        name = name_subject(self.nodeid, self.place, "(no test)")
        return f"{name} ({self.phase})" if self.phase else name


@dataclass(frozen=True, slots=True)
class Finished:
    """An archive that exists."""

    path: Path
    size_bytes: int
    subject: Subject
    note: str
    """What is worth knowing about it, such as a truncated core."""
    has_core: bool = True
    url: str = ""
    """Where it is in the store; empty if it is not there."""


def describe_finished(entry: Finished) -> str:
    """Return size, test and what is worth knowing."""
    text = f"{format_size(entry.size_bytes)}  {entry.subject}"
    return f"{text}  [{entry.note}]" if entry.note else text


def describe_outcome(outcome: Outcome, folders: Folders) -> str:
    """Return the text of the report section at the end."""
    if outcome.state == "failed":
        lines = [attach.describe_failure(outcome.reason)]
    else:
        lines = [attach.describe_archive(folders.shorten(str(outcome.archive)))]
        if outcome.url:
            lines.append(f"uploaded: {outcome.url}")
        if outcome.reason:
            lines.append(f"note: {outcome.reason}")
    return "\n".join([*lines, outcome.answer.rstrip("\n")]).rstrip("\n")


def describe_cause(outcome: Outcome) -> str:
    """Return signal or deadline for the summary; empty for a failure, which pytest has told."""
    if outcome.trigger == "cancel":
        return f"cancelled by {signal.Signals(outcome.signal or signal.SIGTERM).name}"
    return outcome.summary if outcome.trigger in HANDLED else ""
