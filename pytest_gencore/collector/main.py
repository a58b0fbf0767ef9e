"""The collector's life from start to end: see docs/explanation/how-a-capture-works.md."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gencore.collector import abort
from pytest_gencore.collector.abort import CaptureDropped, OnlyTold
from pytest_gencore.collector.assemble import collect
from pytest_gencore.collector.awaited import await_failure
from pytest_gencore.collector.cancelled import wants_archive
from pytest_gencore.collector.core.core_source import read_core_source
from pytest_gencore.collector.describe import describe_state
from pytest_gencore.collector.outcome.earlier import describe_failures
from pytest_gencore.collector.outcome.finisher import Finisher
from pytest_gencore.collector.outcome.messenger import Messenger
from pytest_gencore.collector.outcome.os_errors import describe_os_error
from pytest_gencore.collector.outcome.progress import Progress
from pytest_gencore.collector.outcome.state_file import StateFile
from pytest_gencore.collector.redaction import Redaction
from pytest_gencore.collector.source.captured_process import CapturedProcess
from pytest_gencore.collector.source.environment import format_environment
from pytest_gencore.collector.source.handover import Handover, parse_handover
from pytest_gencore.collector.source.snapshot import Snapshot
from pytest_gencore.collector.stacks.capture_stacks import Stacks, write_answer
from pytest_gencore.collector.stacks.slow import describe_slow
from pytest_gencore.errors import GencoreError
from pytest_gencore.machine.disk import Disk
from pytest_gencore.protocol import Descriptor
from pytest_gencore.run.concurrency import collector_slot
from pytest_gencore.run.quota import SizeQuota
from pytest_gencore.texts import name_subject
from pytest_gencore.triggers import TRIGGERS

if TYPE_CHECKING:
    from pytest_gencore.collector.outcome.artifact import Artifact
    from pytest_gencore.collector.outcome.silent import SilentWorkers
    from pytest_gencore.collector.outcome.workers import Workers
    from pytest_gencore.junit.journal import Journal

_OOM_SCORE = "900"
"""After the snapshot, which has 1000, and before any test."""


class _Collector:
    """What the parts of one capture share."""

    def __init__(self) -> None:
        with os.fdopen(Descriptor.HANDOVER, "rb") as file:
            self.handover = parse_handover(file.read())
        handover = self.handover
        self.redaction = Redaction()
        clean = self.redaction.clean_text
        self.state = StateFile(Descriptor.STATE, describe_state(handover))
        self.process = CapturedProcess(handover.pid, handover.snapshot_pid)
        stderr = Descriptor.STDERR if handover.has_stderr else None
        self.messenger = Messenger(handover, self.process, stderr, clean=clean)
        self.quota = SizeQuota(handover.run_folder, handover.name, handover.context.run.max_bytes)
        self.silent: SilentWorkers | None = None
        """Of a controller that made no progress."""
        self.titles = 1
        """How many lines of the answer are marked as ours."""
        self.finisher = Finisher(
            handover, self.state, self.messenger, self.quota, Descriptor.ARCHIVE, clean=clean
        )

    def work(self) -> Artifact:
        """Make the archive, all but its name; raises GencoreError and OSError."""
        started = time.monotonic()
        handover, state, finisher = self.handover, self.state, self.finisher
        progress = Progress(handover, state, self.messenger)
        snapshot = Snapshot(handover.snapshot_pid, Descriptor.COMMANDS, Descriptor.REPLIES)
        try:
            self.redaction.look(handover, snapshot)
            finisher.uploader.look(snapshot)
            self._tell_only(snapshot)
            stacks = Stacks(handover, snapshot)
            self.silent = look_at_silent(handover, snapshot, stacks)
            if self.silent is not None and self.silent.have_told:
                raise CaptureDropped("the workers have been captured")
            self._publish_answer(stacks)
            finisher.journal = _read_journal(handover, snapshot)
            titles = self._hear_workers()
            has_archive = finisher.workers is None and wants_archive(handover)
            if has_archive:
                self._write_text(stacks, handover)  # what ends us may not let us finish
            self.messenger.prepare(
                finisher.answer,
                describe_failures(
                    finisher.journal,
                    handover.context.request.nodeid,
                    with_text=handover.context.run.session.has_clear_text,
                ),
                titles=titles,
                archive=has_archive,
            )
            finisher.write_early()
            if not has_archive:
                raise OnlyTold("interrupted")
            progress.add_check(finisher.check)
            progress.add_check(self.messenger.check_grace)
            if handover.context.request.moment == "raise":
                state.queue()
                handover = await_failure(handover, self.process, progress.check)
            with (
                collector_slot(handover.run_folder, state.queue, progress.check),
                os.fdopen(Descriptor.ARCHIVE, "wb", buffering=0) as file,
            ):
                state.work()
                abort.start_deadline()
                progress.add_check(abort.start_deadline)
                progress.add_check(Disk(file.fileno(), handover.directory).check, frequent=True)
                progress.add_check(lambda: self.quota.check(os.fstat(file.fileno()).st_size))
                progress.check()
                source = read_core_source(handover, snapshot, self.redaction.clean_core)
                had_frames = stacks.has_frames
                if stacks.add_pystack(source):
                    self._publish_answer(stacks)
                    self.messenger.update(finisher.answer, is_news=not had_frames and stacks.has_frames)
                self._write_text(stacks, handover)
                artifact = collect(handover, source, stacks, file, progress, self.redaction, started)
                progress.check()
                return artifact
        finally:
            snapshot.end()

    def _write_text(self, stacks: Stacks, handover: Handover) -> None:
        """Write the text beside the archive; ``handover``: with the failure, if it is known by now."""
        environment = format_environment(self.redaction.environment)
        failure = handover.context.request.failure_text
        text = stacks.format_text(self.finisher.answer, failure, environment)
        self.finisher.write_text(self.redaction.clean_text(text))

    def _tell_only(self, snapshot: Snapshot) -> None:
        """Raise OnlyTold, with the line told, if a line is all there shall be."""
        if self.handover.context.request.trigger == "slow":
            self.messenger.prepare([describe_slow(self.handover, snapshot)], (), titles=1, archive=False)
            raise OnlyTold("slow")

    def _hear_workers(self) -> int:
        """Add what the workers of a cancelled run have answered; return how many lines are marked as ours."""
        finisher = self.finisher
        workers = ask_workers(self.handover, finisher.journal)
        if workers is not None and workers.is_any_busy:
            finisher.workers = workers
            finisher.answer = [finisher.summary, *workers.describe()]
            return 1
        if workers is not None:
            finisher.answer = [*finisher.answer, *workers.describe()]
        return self.titles

    def _publish_answer(self, stacks: Stacks) -> None:
        lines = stacks.make_answer(has_archive=wants_archive(self.handover))
        verdicts = len(stacks.diagnosis.verdict_lines)
        if self.silent is not None:
            lines, self.titles = self.silent.add_to(lines, verdicts)
        else:
            self.titles = 1 + verdicts
        clean, summary = self.redaction.clean_text, stacks.summary
        if not self.handover.context.run.session.has_clear_text:
            summary = stacks.short_summary
            lines, self.titles = [summary], 1
        self.finisher.answer = [clean(line) for line in lines]
        self.finisher.summary = clean(summary)
        if write_answer(self.handover, self.finisher.answer):
            request = self.handover.context.request
            subject = name_subject(request.nodeid, request.place, "(no test)")
            self.state.answer(self.finisher.summary, clean(subject))


def main() -> None:
    """Collect the capture that this process was started for."""
    os.chdir("/")
    collector = _Collector()
    finisher = collector.finisher
    try:
        with abort.interrupts():
            _be_killed_first()
            artifact = collector.work()
        finisher.publish(artifact)
    except CaptureDropped:
        finisher.drop()
    except OnlyTold:
        finisher.end_told()
    except GencoreError as error:
        finisher.abort(str(error))
    except OSError as error:
        finisher.abort(describe_os_error(error, collector.handover.directory))
    except MemoryError:
        finisher.abort("the collector ran out of memory")
    except Exception as error:
        finisher.abort(f"unexpected {type(error).__name__}: {error} (please report it to pytest-gencore)")
        raise
    finally:
        finisher.clean_up()
        collector.process.close()


def ask_workers(handover: Handover, journal: Journal | None) -> Workers | None:
    """Return the workers of a controller whose run is cancelled, and have waited for their answers."""
    is_cancelled = handover.context.request.trigger == "cancel"
    if not (is_cancelled and handover.context.run.session.is_controller and journal and journal.workers):
        return None
    from pytest_gencore.collector.outcome.workers import Workers  # few captures need it

    workers = Workers(handover, journal.workers)
    workers.wait_for_answers()
    return workers


def look_at_silent(handover: Handover, snapshot: Snapshot, stacks: Stacks) -> SilentWorkers | None:
    """Return the workers of a controller that made no progress; None for any other capture."""
    if handover.context.request.deadline_source != "gencore-session" or not handover.workers_count:
        return None
    from pytest_gencore.collector.outcome.silent import SilentWorkers, read_workers  # few captures need it

    workers = read_workers(handover, snapshot)
    return SilentWorkers(handover, workers, stacks.threads) if workers else None


def _read_journal(handover: Handover, snapshot: Snapshot) -> Journal | None:
    """Read the process's notes from the snapshot; None if there are none, or another's to pass on."""
    is_own = not handover.context.request.child_of
    trigger = TRIGGERS[handover.context.request.trigger]
    is_ours = (
        is_own
        and handover.context.run.session.is_local
        and trigger.by_handler
        and not trigger.is_only_told  # the process goes on, and tells itself
    )
    if not (is_ours and handover.journal_size and handover.journal_address):
        return None
    from pytest_gencore.junit.journal import JOURNAL_LIMIT, parse_journal  # few captures need it

    return parse_journal(snapshot.read(handover.journal_address, min(handover.journal_size, JOURNAL_LIMIT)))


def _be_killed_first() -> None:
    """Let the kernel kill us before any test when memory runs out: see oom_score_adj in proc(5).

    Our priorities for processors and disks are lowered by the launcher.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


if __name__ == "__main__":
    sys.exit("started by pytest_gencore.capture only")
