"""The helper that writes archives where the C extension is not built: one for all captures of a process.

It is told each capture on its standard input, and ends with that. Nothing here needs Linux.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_gencore.archive.manifest import encode_manifest
from pytest_gencore.archive.writer import ManifestTooLongError
from pytest_gencore.collector.abort import CaptureDropped
from pytest_gencore.collector.describe import describe_state
from pytest_gencore.collector.manifest_builder import build_manifest
from pytest_gencore.collector.outcome.os_errors import describe_os_error
from pytest_gencore.collector.outcome.page import make_page, wants_page
from pytest_gencore.collector.redaction import Redaction
from pytest_gencore.collector.source.environment import format_environment
from pytest_gencore.collector.stacks.capture_stacks import ReadThreads, Stacks, write_answer
from pytest_gencore.collector.stacks.last_words import LastWords
from pytest_gencore.collector.stacks.sources import OF_A_TEXT
from pytest_gencore.collector.texts import list_texts, open_writer
from pytest_gencore.collector.told import describe_late, make_diagnosis, make_handover, make_thread
from pytest_gencore.collector.told_captures import ToldCaptures
from pytest_gencore.collector.told_core import ToldCore, remove_work, watch
from pytest_gencore.errors import GencoreError
from pytest_gencore.installed import NO_EXTENSION
from pytest_gencore.run.files import CLOSED, DROP, FULL, SEEN, STATE, partial_name, remove_text, text_name
from pytest_gencore.run.folder import release_place, remove_tree
from pytest_gencore.run.pinned import create_private
from pytest_gencore.run.state import read_state, replace_state
from pytest_gencore.texts import name_subject, printable
from pytest_gencore.triggers import TRIGGERS
from pytest_gencore.units import format_limit, format_size
from pytest_gencore.unpatched import NO_LINK

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.collector.source.handover import Handover

_MANIFEST_SLACK: Final = 4096
_SEEN_SECONDS: Final = 2.0
"""In which a test ends, or names the archive in a report: one that still hangs does not."""
_TICK_SECONDS: Final = 0.05
NOTICE: Final = f"stacks of the process as it went on: {NO_EXTENSION}"


class _Capture:
    """One capture."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.handover = handover = make_handover(told)
        self.redaction = Redaction()
        self.redaction.look_at(
            handover.context, [(str(name), str(value)) for name, value in told["environment"]]
        )
        self._core = ToldCore.of(told["core"])
        read = ReadThreads(
            [make_thread(stack, is_own=number == 0) for number, stack in enumerate(told["stacks"])]
        )
        self.stacks = Stacks.of(handover, LastWords(), read, make_diagnosis(told, handover))
        late = describe_late(told["late"])
        if late:
            self.stacks.facts = self.stacks.facts._replace(said=(late,))
        if self.stacks.facts.native_id is not None and read.threads:
            self.stacks.facts = self.stacks.facts._replace(native_id=read.threads[0].native_id)
        self._problems = [text for text in (late, str(told["problem"])) if text]
        self.state = describe_state(handover)
        self.state.pid = os.getpid()
        self.answer: list[str] = []

    def write(self) -> None:
        """Write everything; what goes wrong is the state's reason."""
        handover = self.handover
        partial = handover.directory / partial_name(handover.name)
        try:
            self._publish_answer()
            try:
                size = self._write_archive(partial)
            finally:
                remove_work(handover.work_directory)
            self._check_size(size)
            result = handover.directory / f"{handover.name}.tar.gz"
            partial.replace(result)
        except CaptureDropped:
            remove_text(handover.directory / text_name(handover.name))
            self._fail(partial, "", end="dropped")
        except GencoreError as error:
            self._fail(partial, str(error))
        except OSError as error:
            self._fail(partial, describe_os_error(error, handover.directory))
        else:
            self.state.state, self.state.result, self.state.size = "done", result.name, size
            self.state.goes_on = wants_page(handover)
            self._write_state()
            if self.state.goes_on:
                self.state.reason, self.state.goes_on = _make_page(handover, result), False
                self._write_state()

    def tell(self) -> None:
        """Say on standard error what nobody else says: of a test that hangs on, or a process that ended."""
        kind = TRIGGERS[self.handover.context.request.trigger]
        folder = self.handover.run_folder
        marks = folder / SEEN.named(self.handover.name), folder / CLOSED.named()
        if kind.by_handler and self.state.state in ("done", "failed"):
            end = time.monotonic() + _SEEN_SECONDS
            while time.monotonic() < end and folder.exists():
                if any(mark.exists() for mark in marks):
                    return
                time.sleep(_TICK_SECONDS)
            if folder.exists():
                archive = self.handover.directory / self.state.result
                shown = self.handover.context.run.session.folders.shorten(str(archive))
                is_done = self.state.state == "done"
                last = (
                    f"core archive: {shown}  ({format_size(self.state.size)})"
                    if is_done
                    else f"no core archive: {self.state.reason}"
                )
                lines = [f"gencore: {printable(line, 1000)}" for line in (*self.answer, last)]
                with contextlib.suppress(OSError):
                    os.write(2, ("\n".join(lines) + "\n").encode(errors="backslashreplace"))
        if (folder / CLOSED.named()).exists():
            with contextlib.suppress(OSError):
                remove_tree(str(folder))

    def _publish_answer(self) -> None:
        session, clean = self.handover.context.run.session, self.redaction.clean_text
        lines, summary = self.stacks.make_answer(has_archive=True), self.stacks.summary
        if self._core.reason:
            lines = [*lines, f"no core: {self._core.reason}"]
        if not session.has_clear_text:
            summary = self.stacks.short_summary
            lines = [summary]
        self.answer = [clean(line) for line in lines]
        request = self.handover.context.request
        self.state.summary = clean(summary)
        self.state.subject = clean(name_subject(request.nodeid, request.place, "(no test)"))
        self.handover.work_directory.mkdir(mode=0o700, exist_ok=True)
        self.state.answered = write_answer(self.handover, self.answer)
        with contextlib.suppress(OSError):
            self.handover.work_directory.rmdir()
        self._write_state()
        if session.has_clear_text:
            environment = format_environment(self.redaction.environment)
            text = clean(self.stacks.format_text(self.answer, request.failure_text, environment))
            _write_text(self.handover.directory / text_name(self.handover.name), text)

    def _write_archive(self, partial: Path) -> int:
        handover, redaction, stacks = self.handover, self.redaction, self.stacks
        request = handover.context.request
        sources = stacks.find_sources(request.failure_text, (), OF_A_TEXT)
        notices = [NOTICE, *self._problems, *redaction.notices, *sources.notices]
        notices += self._core.list_notices(is_redacted=bool(redaction.redactor))
        started = time.monotonic()

        def describe(seconds: float | None) -> bytes:
            manifest = build_manifest(
                handover,
                stacks=stacks,
                method=self._core.method,
                method_reason=self._core.method_reason,
                core=core,
                libraries=[],
                notices=notices,
                collect_seconds=seconds,
            )
            manifest = self._core.complete(manifest, stacks.threads)
            manifest = replace(manifest, environment=redaction.environment)
            return encode_manifest(redaction.clean_manifest(manifest))

        descriptor = os.open(partial, os.O_RDWR | NO_LINK)  # made by the captured process
        with os.fdopen(descriptor, "r+b", buffering=0) as file, self._core.open() as core:
            advance = None if core is None else watch(handover, self.state, core.data_size)
            with open_writer(handover, file, advance) as archive:
                archive.reserve_manifest(describe(None), _MANIFEST_SLACK)
                archive.add_top_folder()
                for name, text in list_texts(handover, stacks, redaction):
                    archive.add_bytes(name, redaction.clean_text(text).encode(errors="replace"))
                for path, data in sources.files:
                    archive.add_bytes(path, redaction.redactor.clean(data))
                if core is not None:
                    archive.add_sparse("core", core.size, core.extents, redaction.clean_core(core).read)
                try:
                    archive.finish(lambda: describe(time.monotonic() - started))
                except ManifestTooLongError:
                    notices[1:] = [f"notices left out: {len(notices) - 1}"]
                    archive.rewrite_manifest(describe(time.monotonic() - started))
            return os.fstat(file.fileno()).st_size

    def _check_size(self, size: int) -> None:
        """Raise GencoreError if the archives of the run would be too large together."""
        handover = self.handover
        if (handover.run_folder / DROP.named(handover.name)).exists():
            raise CaptureDropped("dropped")
        limit = handover.context.run.max_bytes
        states = (read_state(path) for path in handover.run_folder.glob(STATE.glob))
        taken = sum(state.size for state in states if state is not None and state.state == "done")
        if limit and taken + size > limit:
            with contextlib.suppress(OSError):
                (handover.run_folder / FULL.named()).touch(mode=0o600)
            message = f"the archives of this run would be larger than {format_limit(limit)}"
            raise GencoreError(message, help_text="raise --gencore-max-size")

    def _fail(self, partial: Path, reason: str, end: Literal["failed", "dropped"] = "failed") -> None:
        with contextlib.suppress(OSError):
            partial.unlink()
        release_place(self.handover.run_folder, self.state.slot, self.state.claim)
        self.state.state, self.state.reason = end, self.redaction.clean_text(reason)
        self._write_state()

    def _write_state(self) -> None:
        with contextlib.suppress(OSError):
            replace_state(self.handover.run_folder / STATE.named(self.handover.name), self.state)


def _write_text(path: Path, text: str) -> None:
    """Write a new file, as a whole or not at all."""
    with contextlib.suppress(OSError):
        descriptor = create_private(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text.encode(errors="backslashreplace"))
        except OSError:
            path.unlink()


def _make_page(handover: Handover, result: Path) -> str:
    """Return why there is no page, empty if there is."""
    try:
        return make_page(handover, result)
    except Exception as error:  # noqa: BLE001 - what bounds programs is written for Linux
        return f"no page was made: {type(error).__name__}: {error}"


def main() -> None:
    """Write captures until standard input ends."""
    if os.name != "nt":
        if os.fork():  # then we are nobody's child
            os._exit(0)
        os.setsid()  # what is sent to the processes of a terminal, or to a group, does not end us
    os.chdir(os.path.abspath(os.sep))  # noqa: PTH100
    captures = ToldCaptures()
    captures.start(sys.stdin.buffer)
    telling: list[threading.Thread] = []
    folder: Path | None = None
    """That of the run, if no other process sees to it."""
    while (told := captures.take()) is not None:
        try:
            capture = _Capture(told)
            capture.write()
        except Exception as error:  # noqa: BLE001 - the next one shall be written
            _give_up(told, f"unexpected {type(error).__name__}: {error} (please report it to pytest-gencore)")
            continue
        if capture.handover.context.run.session.is_local:
            folder = capture.handover.run_folder
        telling.append(threading.Thread(target=capture.tell))
        telling[-1].start()
    for thread in telling:
        thread.join()
    if folder is not None:  # whoever would have removed it has ended
        with contextlib.suppress(OSError):
            remove_tree(str(folder))


def _give_up(told: dict[str, Any], reason: str) -> None:
    """Say that there is no archive, as far as that can be said."""
    with contextlib.suppress(Exception):
        handover = make_handover(told)
        state = describe_state(handover)
        state.state, state.reason = "failed", reason
        remove_work(handover.work_directory)
        (handover.directory / partial_name(handover.name)).unlink(missing_ok=True)
        release_place(handover.run_folder, state.slot, state.claim)
        replace_state(handover.run_folder / STATE.named(handover.name), state)
