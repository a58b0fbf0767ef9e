"""Write the diagnosis to standard error when the test process cannot."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from typing import TYPE_CHECKING, Final

from pytest_gencore.run.files import CLOSED, SEEN
from pytest_gencore.texts import printable
from pytest_gencore.triggers import TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_gencore.collector.source.captured_process import CapturedProcess
    from pytest_gencore.collector.source.handover import Handover

_WRITE_SECONDS: Final = 5.0
_REPORT_SECONDS: Final = 2.0
_TICK_SECONDS: Final = 0.05
_PIECE: Final = 512
"""Less than PIPE_BUF of pipe(7): what poll(2) calls writable takes it at once."""
_LINE_LENGTH: Final = 1000
_RED, _PLAIN = "\x1b[1m\x1b[31m", "\x1b[0m"


class Messenger:
    """Writes the answer and what came of the archive; never waits for a reader that does not read."""

    def __init__(
        self,
        handover: Handover,
        process: CapturedProcess,
        descriptor: int | None,
        *,
        clean: Callable[[str], str],
    ) -> None:
        """Take over the descriptor of the test run's standard error, None if it is not to be told.

        ``clean`` takes secrets out of what is written.
        """
        self._clean = clean
        self._process = process
        self._trigger = TRIGGERS[handover.context.request.trigger]
        self._is_ending = handover.context.exits or self._trigger.is_told_at_once
        self._is_child = handover.context.request.child_of != 0
        self._has_controller = handover.context.request.worker_id is not None
        self._closed_mark: Path = handover.run_folder / CLOSED.named()
        target = handover.directory / f"{handover.name}.tar.gz"
        self._target = handover.context.run.session.folders.shorten(str(target))
        self._seen_mark: Path = handover.run_folder / SEEN.named(handover.name)
        self._has_archive = True
        grace = handover.context.request.grace_seconds
        self._is_cancelled = handover.context.request.trigger == "cancel"
        self._grace_ends = time.monotonic() + grace
        self._is_unheard = False
        self._lines: list[str] | None = None
        self._titles = 1
        self._failures: Sequence[str] = ()
        self._descriptor = descriptor
        self._has_colour = (
            handover.context.run.session.has_colour and descriptor is not None and os.isatty(descriptor)
        )
        if descriptor is not None:
            os.set_inheritable(descriptor, False)

    @property
    def is_needed(self) -> bool:
        """Whether the captured process tells nobody: it crashes, or ended without closing its run.

        The controller of pytest-xdist tells of its workers that ended.
        """
        if self._trigger.is_only_told:
            return True
        if not self._trigger.by_handler or self._has_controller or self._is_child:
            return False
        return self._is_ending or (self._process.has_ended() and not self._closed_mark.exists())

    @property
    def has_last_word(self) -> bool:
        """Whether the captured process has ended, and nobody else tells of it."""
        return self.is_needed and not self._trigger.is_only_told and self._process.has_ended()

    @property
    def speaks(self) -> bool:
        """Whether there is anything to write: nobody else tells, or nobody has told so far."""
        return self.is_needed or self._is_unheard

    def prepare(
        self, answer: Sequence[str], failures: Sequence[str], *, titles: int, archive: bool = True
    ) -> None:
        """Take the answer, and what pytest has not shown yet; a dying process's is written at once.

        The first ``titles`` lines are marked as ours: a log has those of others, too. ``archive``: one is
        under way.
        """
        self._has_archive = archive
        self._titles = titles
        self._lines = list(answer)
        self._failures = failures
        self.check()

    def update(self, answer: Sequence[str], *, is_news: bool) -> None:
        """Take a fuller answer; ``is_news``: write it, if the one that was written had no stack."""
        if self._lines is not None:
            self._lines = list(answer)
        elif is_news and self._descriptor is not None and self.speaks:
            self._write("\n" + "\n".join(self._mark(answer)) + "\n")

    def check(self) -> None:
        """Write the answer if it is needed and has not been written."""
        if self._descriptor is None or self._lines is None or not self.speaks:
            return
        lines, self._lines = self._lines, None
        text = [*self._mark(lines), *self._failures]
        if self._has_archive:
            text.append(f"gencore: core archive under way: {self._target}")
        self._write("\n" + "\n".join(text) + "\n")

    def check_grace(self) -> None:
        """Give up standard error when a cancelled run does not wait any longer: others wait for its end."""
        if self._is_cancelled and time.monotonic() > self._grace_ends:
            self.close()

    def _mark(self, lines: Sequence[str]) -> list[str]:
        """Mark the titles as ours; where pytest has colours they have that of its failures."""
        before, after = (_RED, _PLAIN) if self._has_colour else ("", "")
        titles = (f"{before}gencore: {line}{after}" for line in lines[: self._titles])
        return [*titles, *lines[self._titles :]]

    def add(self, lines: Sequence[str]) -> None:
        """Write more lines, as they are."""
        if lines and self._descriptor is not None and self.speaks:
            self._write("\n".join(lines) + "\n")

    def add_commands(self, lines: Sequence[str]) -> None:
        """Write lines that mean something at their start: what others have written may have no end."""
        if lines:
            self.add(["", *lines])

    def listen(self) -> None:
        """Find out whether anybody else tells of it, if nobody has to."""
        if self._descriptor is not None and self._trigger.may_go_on and not self._is_unheard:
            self._wait_for_report()

    def conclude(self, *lines: str) -> None:
        """Write what came of it, if that is needed."""
        self.listen()
        self.check()
        for line in lines:
            if self._descriptor is not None and self.speaks:
                self._write(f"gencore: {printable(line, _LINE_LENGTH)}\n")

    def close(self) -> None:
        """Give the descriptor up: who reads from it may wait for its end."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _wait_for_report(self) -> None:
        """Give the test a moment to end: one that still hangs has no report that would name the archive."""
        deadline = time.monotonic() + _REPORT_SECONDS
        while not (self.is_needed or self._seen_mark.exists() or self._closed_mark.exists()):
            if time.monotonic() >= deadline:
                self._is_unheard = True
                return
            time.sleep(_TICK_SECONDS)

    def _write(self, text: str) -> None:
        assert self._descriptor is not None
        if not write_with_timeout(self._descriptor, self._clean(text).encode(errors="backslashreplace")):
            self.close()


def write_with_timeout(descriptor: int, data: bytes, timeout: float = _WRITE_SECONDS) -> bool:
    """Write to a descriptor whose flags are shared with others; tell whether all was taken in time.

    ``timeout`` are the seconds without any progress after which it gives up.
    """
    view = memoryview(data)
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        target = _open_nonblocking(descriptor)
        if target is not None:
            stack.callback(os.close, target)
        poll = select.poll()
        poll.register(descriptor if target is None else target, select.POLLOUT)
        while view:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return False
            try:
                count = os.write(descriptor if target is None else target, view[:_PIECE])
            except BlockingIOError:
                count = 0
            except OSError:
                return False
            view = view[count:]
            if count:
                deadline = time.monotonic() + timeout
            elif time.monotonic() >= deadline:
                return False
    return True


def _open_nonblocking(descriptor: int) -> int | None:
    """Open a pipe or terminal anew, so that O_NONBLOCK is not set for everybody who has it.

    Not a file: it would get a position of its own. None where the descriptor itself must do.
    """
    with contextlib.suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{descriptor}", flags)
    return None
