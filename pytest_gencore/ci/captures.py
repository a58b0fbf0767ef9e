"""What is told of a capture, whichever system reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_gencore.run.files import ARCHIVE_SUFFIX, find_size, page_beside, text_beside
from pytest_gencore.texts import command_to_open, escape_unprintable, name_subject, shorten_path
from pytest_gencore.triggers import TRIGGERS
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.run.outcome import Outcome
    from pytest_gencore.triggers import Trigger

_REASON_LENGTH = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """One capture; of its texts only ``answer`` has several lines. None of them is escaped for any format."""

    test: str
    """The test, or where outside of tests it was."""
    trigger: Trigger | None
    verdict: str
    """The first line of the answer: what everything waits for if that is known, else what happened."""
    answer: str
    """As the log has it: verdict, trigger, stacks; only that there is one if the log shows no more."""
    archive: Path
    state: Literal["working", "done", "failed", "dropped"]
    size_bytes: int = 0
    reason: str = ""
    """Why there is no archive, or what is worth knowing of it."""
    has_core: bool = True
    is_sealed: bool = False
    url: str = ""
    """Where the archive is in the store; empty if it is not there, or not yet."""

    @property
    def name(self) -> str:
        """The file's name, unique in a run."""
        return self.archive.name

    @property
    def is_final(self) -> bool:
        """Whether nothing more will be known."""
        return self.state != "working"

    @property
    def command(self) -> str:
        """What opens the archive in the folder to which it was downloaded; empty for a bare core."""
        if not self.name.endswith(ARCHIVE_SUFFIX):
            return ""
        return command_to_open(self.name, has_core=self.has_core, is_sealed=self.is_sealed)

    def find_beside(self) -> list[Path]:
        """Return the files that are there for readers beside the archive: its text, its page."""
        if not self.name.endswith(ARCHIVE_SUFFIX):
            return []
        paths = (text_beside(self.archive), page_beside(self.archive))
        return [path for path in paths if find_size(path) is not None]

    def describe_archive(self) -> str:
        """Return what came of the archive, on one line."""
        if self.state == "working":
            return "being written"
        reason = escape_unprintable(self.reason[:_REASON_LENGTH])
        if self.state == "done":
            size = format_size(self.size_bytes)
            return f"{size} ({reason})" if reason else size
        return f"no archive: {reason}" if reason else "no archive"

    def show_path(self, base: str) -> str:
        """Return its path, relative to a folder if it is below that."""
        return shorten_path(self.archive, base)


def describe(outcome: Outcome, *, is_sealed: bool) -> Capture:
    """Return what is told of an outcome."""
    answer = outcome.answer.rstrip("\n")
    subject = outcome.subject or name_subject(outcome.nodeid, outcome.place, "(no test)")
    return Capture(
        test=escape_unprintable(subject),
        trigger=outcome.trigger,
        verdict=answer.partition("\n")[0] or outcome.summary,
        answer=answer,
        archive=outcome.archive,
        state=outcome.state,
        size_bytes=outcome.size_bytes,
        has_core=outcome.has_core,
        reason=outcome.reason,
        is_sealed=is_sealed,
        url=outcome.url,
    )


def is_told(outcome: Outcome) -> bool:
    """Whether there is anything to tell: nobody wants to hear of what was dropped, or has no archive."""
    if outcome.trigger is None or TRIGGERS[outcome.trigger].is_only_told:
        return False
    if outcome.state == "dropped":
        return outcome.trigger == "cancel" and bool(outcome.answer)
    return bool(outcome.answer) or outcome.state != "working"
