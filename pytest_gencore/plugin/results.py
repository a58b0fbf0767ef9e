"""What the captures of a run came to, collected and shown in the controller or the only process."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gencore.installed import has_extension
from pytest_gencore.plugin import attach
from pytest_gencore.plugin.finished import (
    Finished,
    Subject,
    describe_cause,
    describe_finished,
    describe_outcome,
)
from pytest_gencore.run.files import find_size, page_beside
from pytest_gencore.texts import command_to_open, escape_unprintable
from pytest_gencore.units import format_limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

    from pytest_gencore.junit.attacher import Archives
    from pytest_gencore.plugin.settings import Settings
    from pytest_gencore.run.folder import Refusals
    from pytest_gencore.run.outcome import Outcome
    from pytest_gencore.texts import Folders

SUBJECTS_SHOWN = 5
MISSING = "the archive is not on this machine"


class Results:
    """Collects from reports, workers and the files on disk; makes the lines of the summary."""

    def __init__(self, folders: Folders, *, is_sealed: bool = False, encoding: str = "utf-8") -> None:
        """``folders``: those of the session; ``is_sealed``: archives are for those who have a key.

        ``encoding`` is the terminal's: of a text that it cannot show pytest escapes every line end, too.
        """
        self.finished: list[Finished] = []
        self.reports: list[pytest.TestReport] = []
        """The reports with something of ours on them."""
        self.corrections: dict[str, str] = {}
        """Texts of report sections, and what is known instead at the end."""
        self._folders = folders
        self._is_sealed = is_sealed
        self._encoding = encoding
        self._notes: list[str] = []
        self._unavailable: list[str] = []
        self._failures: dict[str, list[Subject]] = {}
        self._failed_names: set[str] = set()
        self._unfinished: list[Path] = []
        self._answers: dict[str, str] = {}
        self._cancelled: list[Outcome] = []
        self._store_problems: list[str] = []
        self._not_uploaded: set[str] = set()
        self._told_here: list[str] = []
        """Answers that a report should show."""

    def add_report(self, report: pytest.TestReport) -> None:
        """Take notice of what a report says about captures."""
        reason = getattr(report, "gencore_failure", "")
        if reason:
            self._add_failure(reason, Subject(report.nodeid, report.when))
        note = getattr(report, "gencore_note", "")
        if note:
            self.add_note(note)
        if getattr(report, "gencore", None):
            self.reports.append(report)

    def add_unavailable(self, reason: str) -> None:
        """Take notice that a process could not capture at all."""
        if reason and reason not in self._unavailable:
            self._unavailable.append(reason)

    def add_note(self, note: str) -> None:
        """Add a line to the summary, once."""
        if note not in self._notes:
            self._notes.append(note)

    def find_paths(self) -> set[str]:
        """Return the archives that reports have named so far."""
        return {attachment["path"] for report in self.reports for attachment in report.gencore}

    def settle(
        self, outcomes: Iterable[Outcome], *, problem: str = "", shown: Iterable[pytest.TestReport] = ()
    ) -> None:
        """Take over the outcomes of the run; what reports name besides is looked for on disk.

        ``problem`` is why outcomes may be missing; ``shown`` are reports that pytest shows: as of
        subtests, copies of ours are among them.
        """
        known = {}
        for outcome in outcomes:
            known[str(outcome.archive)] = outcome
            self._add_outcome(outcome)
        copies = [report for report in shown if report not in self.reports]
        for report in [*self.reports, *copies]:
            for attachment in getattr(report, "gencore", ()):
                path = attachment["path"]
                if path not in known:
                    subject = Subject(report.nodeid, attachment["phase"])
                    self._add_named(Path(path), subject, problem or f"{MISSING}: {path}")
                else:
                    whole = describe_outcome(known[path], self._folders)
                    text = whole.encode(self._encoding, "backslashreplace").decode(self._encoding)
                    attach.replace_section(report, path, text)
                    self.corrections[attach.describe_archive(path)] = text

    def add_refusals(self, refusals: Refusals, settings: Settings) -> None:
        """Account for the captures that were refused, also those of processes that could not say so."""
        if refusals.number:
            self._notes.append(
                f"{refusals.number} not captured: the limit of {settings.max_cores} captures of one run is "
                "reached (raise --gencore-max-cores)"
            )
        if refusals.size:
            self._notes.append(
                f"{refusals.size} not captured: an archive did not fit into "
                f"{format_limit(settings.max_size)}, the size of all archives of one run "
                "(raise --gencore-max-size)"
            )
        if refusals.again:
            self._notes.append(
                f"{refusals.again} not captured: each test, and what is outside of tests, is captured once "
                "a run for each kind: failure, hang, crash, cancel"
            )

    def make_archives(self) -> Archives:
        """Return the archives as the junit file needs them; a hook may have moved one away since."""
        from pytest_gencore.junit.attacher import Archives, Cancelled
        from pytest_gencore.junit.common import name_case

        finished = {entry.path.name: entry.path for entry in self.finished if entry.path.is_file()}
        return Archives(
            finished=finished,
            failed=frozenset(self._failed_names),
            urls={entry.path.name: entry.url for entry in self.finished if entry.url},
            not_uploaded=frozenset(self._not_uploaded | self._failed_names),
            answers=self._answers,
            cancelled=[
                Cancelled(
                    *name_case(outcome.nodeid),
                    summary=outcome.summary,
                    text=outcome.answer,
                    archive=finished.get(outcome.archive.name),
                )
                for outcome in self._cancelled
                if outcome.nodeid is not None
            ],
        )

    def make_lines(self, shown: Iterable[str] = ()) -> list[str]:
        """Return the lines of the summary, safe to show; none if there is nothing to tell.

        ``shown`` are texts of reports: an answer that none of them has is among the lines.
        """
        return [escape_unprintable(line) for line in self._make_raw_lines(shown)]

    def _make_raw_lines(self, shown: Iterable[str]) -> list[str]:
        return [
            *self._make_untold_lines("\n".join(shown)),
            *self._make_count_lines(),
            *(line for entry in self.finished for line in self._describe(entry)),
            *self._make_failure_lines(),
            *(f"still being written: {self._shorten(path)}" for path in self._unfinished),
            *(f"no capture is possible: {reason}" for reason in self._unavailable),
            *self._make_store_lines(),
            *self._notes,
            *self._make_hint_lines(),
        ]

    def _describe(self, entry: Finished) -> Iterator[str]:
        yield f"{self._shorten(entry.path)}  {describe_finished(entry)}"
        if entry.url:
            yield f"  uploaded: {entry.url}"
        page = page_beside(entry.path)
        if find_size(page) is not None:
            yield f"  page: {self._shorten(page)}"

    def make_count_text(self) -> str:
        """Return how many captures came to what."""
        failed = sum(map(len, self._failures.values()))
        counts = ((len(self.finished), "captured"), (failed, "failed"), (len(self._unfinished), "unfinished"))
        return ", ".join(f"{count} {word}" for count, word in counts if count)

    def _add_outcome(self, outcome: Outcome) -> None:
        subject = Subject(outcome.nodeid, outcome.phase, outcome.place)
        if outcome.trigger == "cancel":
            self._cancelled.append(outcome)
        if outcome.state == "dropped":
            return
        if outcome.answer:
            self._answers[outcome.archive.name] = outcome.answer
            if outcome.trigger not in {"request", "cancel"}:  # of that the collector has told
                self._told_here.append(outcome.answer)
        if outcome.state == "done":
            note = "; ".join(filter(None, (describe_cause(outcome), outcome.reason)))
            self.finished.append(
                Finished(outcome.archive, outcome.size_bytes, subject, note, outcome.has_core, outcome.url)
            )
            if outcome.store_problem:
                self._store_problems.append(outcome.store_problem)
                self._not_uploaded.add(outcome.archive.name)
        elif outcome.state == "failed":
            self._failed_names.add(outcome.archive.name)
            self._answers[outcome.archive.name] = describe_outcome(outcome, self._folders)
            self._add_failure(outcome.reason, subject)
        else:
            self._unfinished.append(outcome.archive)

    def _add_named(self, path: Path, subject: Subject, missing: str) -> None:
        if any(entry.path == path for entry in self.finished) or path.name in self._failed_names:
            return
        size_bytes = find_size(path)
        if size_bytes is None:
            self._failed_names.add(path.name)
            self._add_failure(missing, subject)
        else:
            self.finished.append(Finished(path, size_bytes, subject, ""))

    def _add_failure(self, reason: str, subject: Subject) -> None:
        subjects = self._failures.setdefault(reason, [])
        if subject not in subjects:
            subjects.append(subject)

    def _make_untold_lines(self, shown: str) -> Iterator[str]:
        for answer in self._told_here:
            if answer.rstrip("\n") not in shown:  # or only what was known at first
                yield from answer.rstrip("\n").splitlines()
                yield ""

    def _make_count_lines(self) -> Iterator[str]:
        text = self.make_count_text()
        if text:
            yield text

    def _make_store_lines(self) -> Iterator[str]:
        """Yield one line about all archives that are not in the store."""
        if self._store_problems:
            count = len(self._store_problems)
            yield f"{self._store_problems[0]} ({count} of {len(self.finished)} archives are not there)"

    def _make_hint_lines(self) -> Iterator[str]:
        if self.finished:
            first = self.finished[0]
            # Without the extension gencore's debuggers are no help: the manifest says what is.
            path, has_core = self._shorten(first.path), first.has_core and has_extension()
            yield f"open one: {command_to_open(path, has_core=has_core, is_sealed=self._is_sealed)}"
            if has_extension() and importlib.util.find_spec("pystack") is None:
                yield "pip install 'pytest-gencore[stacks]' adds native frames and locals to these stacks"

    def _make_failure_lines(self) -> Iterator[str]:
        for reason, subjects in self._failures.items():
            yield f"failed: {reason}"
            yield from (f"    {subject}" for subject in subjects[:SUBJECTS_SHOWN])
            if len(subjects) > SUBJECTS_SHOWN:
                yield f"    ... and {len(subjects) - SUBJECTS_SHOWN} more"

    def _shorten(self, path: Path) -> str:
        return self._folders.shorten(str(path))
