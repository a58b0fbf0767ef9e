"""How a capture ends: with an archive, without one, or dropped; what others need to know of it."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.abort import CaptureAborted, CaptureDropped
from pytest_gencore.collector.log import close_log, log
from pytest_gencore.collector.outcome.ci_page import is_sent_by_collectors, tell_ci
from pytest_gencore.collector.outcome.page import make_page, wants_page
from pytest_gencore.collector.outcome.upload import Uploader
from pytest_gencore.run.files import CLOSED, DROP, STATE, partial_name, remove_text, text_name
from pytest_gencore.run.folder import (
    is_awaited,
    is_locked,
    release_place,
    remove_folder,
    remove_tree,
    sweep,
)
from pytest_gencore.run.naming import describe_gone, give_name
from pytest_gencore.run.pinned import create_private, open_regular
from pytest_gencore.triggers import TRIGGERS
from pytest_gencore.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.collector.outcome.artifact import Artifact
    from pytest_gencore.collector.outcome.messenger import Messenger
    from pytest_gencore.collector.outcome.state_file import StateFile
    from pytest_gencore.collector.outcome.workers import Workers
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.junit.journal import Journal
    from pytest_gencore.run.quota import SizeQuota

_OTHERS_SECONDS: Final = 120.0
_TICK_SECONDS: Final = 0.1
_LATE_SECONDS: Final = 3.0
"""For answers of workers that did not come in time."""


class Finisher:
    """Ends one capture: exactly one of ``publish``, ``abort`` and ``drop``, then ``clean_up``."""

    def __init__(
        self,
        handover: Handover,
        state: StateFile,
        messenger: Messenger,
        quota: SizeQuota,
        file: int,
        *,
        clean: Callable[[str], str],
    ) -> None:
        """``file`` is a descriptor of the file that will be the archive; it is duplicated.

        ``clean`` takes secrets out of what is written. The answer has none.
        """
        self._clean = clean
        self.answer: list[str] = []
        """Lines for people: verdict, trigger, stacks; empty as long as nothing is known."""
        self.summary = ""
        """The line about the trigger among them."""
        self.journal: Journal | None = None
        """The captured process's notes for a junit file."""
        self.workers: Workers | None = None
        """Of a controller whose run is cancelled: they were in tests, and speak for themselves."""
        self._handover = handover
        self._state = state
        self._messenger = messenger
        self._quota = quota
        self._is_published = False
        self._folder = handover.run_folder
        is_core = handover.context.request.product == "core"
        self._result = handover.directory / (handover.name if is_core else f"{handover.name}.tar.gz")
        self._partial = handover.directory / partial_name(handover.name)
        self._text = handover.directory / text_name(handover.name)
        self._file = os.dup(file)
        self.uploader = Uploader(handover)
        self._url = ""
        """Where the archive is, or will be, in the store."""

    def publish(self, artifact: Artifact) -> None:
        """Give the finished file its name and say so; raises ArchiveError, OSError and CaptureDropped."""
        has_page = wants_page(self._handover)
        goes_on = has_page or self.uploader.is_wanted
        with self._quota.locked():
            if self._is_dropped():
                raise CaptureDropped("dropped")
            self._quota.check(artifact.size)
            give_name(self._file, self._partial, self._result)
            self._state.finish(
                result=self._result.name,
                size=artifact.size,
                method=artifact.method,
                notices=artifact.notices,
                goes_on=goes_on,
            )
        self._is_published = True
        shown = self._handover.context.run.session.folders.shorten(str(self._result))
        line = f"core archive: {shown}  ({format_size(artifact.size)})"
        self._url = self.uploader.find_url(self._result) if self.uploader.is_wanted else ""
        self._tell(line, f"gencore: core archive: {self._result}", self._result)
        if has_page:
            self._state.end_page(make_page(self._handover, self._result))
        if self._url and not self._is_dropped():
            self._upload()
        self._state.end()
        if goes_on:
            self._tell_ci()  # again: until now it was being written

    def _upload(self) -> None:
        self._state.begin_upload()
        problem = self.uploader.upload(self._result, self._state, self._messenger.check_grace)
        problem = self._clean(problem)
        line = problem or f"uploaded: {self._url}"
        if not problem:
            self._append_to_text(f"\n{line}\n")
        else:
            self._url = ""
            if self._messenger.is_needed:
                self._write_junit(f"gencore: core archive: {self._result}", self._result)
        self._state.end_upload(self._url, problem)
        if self._url or self.uploader.is_news:
            self._messenger.conclude(line)

    def write_text(self, text: str) -> None:
        """Write what people and tools read without unpacking, beside the archive, if that is wanted.

        It stays where there is no archive after all, as on a full disk; errors are passed over.
        """
        context = self._handover.context
        if context.request.product == "core" or not context.run.session.has_clear_text:
            return
        new = self._handover.work_directory / self._text.name
        with contextlib.suppress(OSError):
            with os.fdopen(create_private(new), "w", errors="backslashreplace") as file:
                file.write(text)
            new.replace(self._text)  # one of the same name is replaced, and no link is followed

    def _append_to_text(self, line: str) -> None:
        """Add to the text beside the archive, if there is one; the one in the store lies beside it there."""
        with contextlib.suppress(OSError), os.fdopen(open_regular(self._text, os.O_WRONLY), "a") as file:
            file.seek(0, os.SEEK_END)
            file.write(line)

    def check(self) -> None:
        """Raise CaptureAborted if there is nothing left to be finished: somebody removed the directory."""
        try:
            self._partial.lstat()
        except FileNotFoundError as error:
            raise CaptureAborted(describe_gone(self._partial)) from error

    def abort(self, reason: str) -> None:
        """Remove what there is of the archive, let others capture instead, and say why.

        What goes wrong after the archive was published is only logged.
        """
        if self._is_published:
            log(reason)
            return
        self._discard()
        self._state.fail(reason)
        line = f"no core archive: {reason}"
        self._tell(line, f"gencore: {line}", None)

    def drop(self) -> None:
        """Remove what there is of the archive, let others capture instead."""
        self._discard()
        remove_text(self._text)
        self._state.drop()
        self._messenger.close()

    def end_told(self) -> None:
        """Say what there is to say where there shall be no archive, as of a test interrupted early."""
        self._discard()
        remove_text(self._text)
        lines = self._conclude_for_workers() if self.workers else self._describe_early()
        problem = self._write_junit("\n".join(f"gencore: {line}" for line in lines), None)
        self._tell_ci()
        self._messenger.conclude(*lines, *filter(None, (problem,)))
        self._state.drop()

    def _describe_early(self) -> list[str]:
        request = self._handover.context.request
        if TRIGGERS[request.trigger].is_only_told:
            return []
        after = format_duration(request.interrupt_after)
        return [
            f"no core archive: what was interrupted had run for less than {after} (gencore_interrupt_after)"
        ]

    def _conclude_for_workers(self) -> list[str]:
        assert self.workers is not None
        is_shown_later = not self._handover.context.exits  # by pytest, which goes on
        if is_shown_later:
            self.workers.wait_for_answers(_LATE_SECONDS)
        else:
            self.workers.wait_for_archives(self._messenger.check_grace)
        self._messenger.add(self.workers.describe_late())
        return [] if is_shown_later else list(self.workers.conclude())

    def write_early(self) -> None:
        """Write what others read, before the archive is finished: the machine may go, too."""
        if self._messenger.is_needed:
            self._write_junit(f"gencore: core archive under way: {self._result}", None)
        if self._handover.context.request.moment == "report":
            self._tell_ci(is_last=False)

    def clean_up(self) -> None:
        """Leave only the state for those who wait; if nobody does, not even that."""
        self._messenger.close()
        with contextlib.suppress(OSError):
            _empty(self._handover.work_directory)
        self._state.close()  # before the question: of two who tidy up at the same time one sees the other
        if self._handover.context.exits:  # who waits for us dies then, and the machine may go, too
            wait_for_others(self._folder, self._handover.name, _OTHERS_SECONDS)
            with contextlib.suppress(OSError):
                (self._folder / CLOSED.named()).touch(mode=0o600)
        name = self._handover.context.run.run_folder
        if self._messenger.has_last_word and not is_awaited(self._folder, name):  # not ended without one
            with contextlib.suppress(OSError):
                (self._folder / CLOSED.named()).touch(mode=0o600)
        if not is_awaited(self._folder, name):
            close_log()
            sweep(self._folder, self._handover.directory / name)

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            self._partial.unlink()
        release_place(self._folder, self._handover.slot, self._handover.context.claim)

    def _is_dropped(self) -> bool:
        return (self._folder / DROP.named(self._handover.name)).exists()

    def _tell_ci(self, *, is_last: bool = True) -> None:
        """Tell the CI system if nobody else does; what goes wrong is told, and changes nothing."""
        if not (self._messenger.speaks or is_sent_by_collectors(self._handover)):
            return
        try:
            lines = tell_ci(self._handover, without_own=self.workers is not None, with_problem=is_last)
        except Exception as error:  # noqa: BLE001 - the archive and the log are worth more
            lines = [f"gencore: ci: unexpected {type(error).__name__}: {error}"]
        self._messenger.add_commands(lines)

    def _tell(self, line: str, line_in_junit: str, archive: Path | None) -> None:
        problem = self._write_junit(line_in_junit, archive) if self._messenger.is_needed else ""
        self._messenger.listen()
        self._messenger.check()
        self._tell_ci()
        self._messenger.conclude(line, *([problem] if problem else []))

    def _write_junit(self, line: str, archive: Path | None) -> str:
        """Write it if it is ours to write; return what went wrong."""
        session = self._handover.context.run.session
        path = session.junit_path
        if self.journal is None or not path or not self.answer:
            return ""
        from pytest_gencore.junit.writer import Verdict, write_junit  # few captures need it

        verdict = Verdict(
            nodeid=self._handover.context.request.nodeid,
            summary=self.summary,
            text="\n".join([*self.answer, "", line]),
            archive=archive,
            started_ns=self._handover.started_ns,
            workers=self.workers.verdicts() if self.workers else {},
            have_all_answered=self.workers is not None and self.workers.have_all_answered,
            base=session.junit_base,
            url=self._url if archive is not None else "",
        )
        try:
            write_junit(Path(path), self._folder, self.journal, verdict, clean=self._clean)
        except OSError as error:
            problem = f"junit: {path} could not be written: {error.strerror}"
            log(problem)
            return problem
        return ""


def wait_for_others(folder: Path, name: str, seconds: float) -> None:
    """Wait until no other capture of the run is being written, at most so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(is_locked(state) for state in folder.glob(STATE.glob) if state.stem != name):
            return
        time.sleep(_TICK_SECONDS)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        remove_tree(str(path))
    remove_folder(folder)
