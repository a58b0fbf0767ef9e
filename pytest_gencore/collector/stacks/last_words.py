"""What the process itself said last: glibc's message of an abort, the end of its output."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.collector.source.abort_message import SIGABRT, read_abort_message
from pytest_gencore.protocol import OUTPUT_SIZE
from pytest_gencore.texts import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot

MEMBER: Final = "output.txt"
_LINES: Final = 6
"""Lines of output for a log."""
_LINES_OF_BOTH: Final = (4, 2)
"""Those of standard error and of standard output, if both have some."""
_NEWLINE: Final = "\n"
_REASON = re.compile(
    r"terminate called |libc\+\+abi: |pure virtual method called|Fatal Python error: "
    r"|thread '.*' .*panicked at "
)
"""Lines with which C++, Python and Rust begin to say why they abort; more lines may follow."""


class LastWords(NamedTuple):
    """They are the process's own, and untrusted."""

    is_abort: bool = False
    """Whether the capture is of SIGABRT."""
    abort_message: str | None = None
    """glibc's, None if there is none."""
    stdout: bytes = b""
    """The end of what went to standard output, as far as it can be read."""
    stderr: bytes = b""

    def describe(self) -> tuple[str, ...]:
        """Return lines for a log: the message, then a few of the output."""
        message = () if self.abort_message is None else (f"glibc: {printable(self.abort_message)}",)
        return (*message, *self.describe_output())

    def describe_output(self) -> tuple[str, ...]:
        """Return a few lines of the output, without the message; none if there was no output."""
        ends = [(name, self._lines_of(data)) for name, data in self._ends()]
        ends = [(name, lines) for name, lines in ends if lines]
        limits = (_LINES,) if len(ends) == 1 else _LINES_OF_BOTH
        return tuple(
            line
            for (name, lines), limit in zip(ends, limits, strict=False)
            for line in self._describe_end(name, lines, limit)
        )

    def format_output(self) -> str:
        """Return the text of ``output.txt``, empty if there was no output."""
        return "\n".join(
            f"the last {len(data)} bytes that went to {name}:\n{_decode(data).rstrip(_NEWLINE)}\n"
            for name, data in self._ends()
        )

    def _ends(self) -> list[tuple[str, bytes]]:
        if self.stdout == self.stderr:  # one file
            ends = [("standard output and error", self.stdout)]
        else:
            ends = [("standard error", self.stderr), ("standard output", self.stdout)]
        return [(name, data) for name, data in ends if data]

    def _lines_of(self, data: bytes) -> list[str]:
        """Return the lines that say something, without the rest of one whose beginning was not read."""
        if len(data) >= OUTPUT_SIZE:
            data = data.partition(b"\n")[2] or data
        lines = (line.rstrip() for line in _decode(data).split(_NEWLINE))
        return [line for line in lines if line and line.strip() != self.abort_message]

    def _describe_end(self, name: str, lines: list[str], limit: int) -> Iterator[str]:
        """Yield title and lines: the last ones, or those from where the process says why it aborts."""
        last = max(0, len(lines) - limit)
        reasons = (number for number in range(last - 1, -1, -1) if _REASON.match(lines[number]))
        start = next(reasons, last) if self.is_abort else last
        yield f"last output on {name}:"
        yield from (f"  {printable(line)}" for line in lines[start : start + limit])
        if start < last:
            yield f"  ... {last - start} more lines in {MEMBER}"


def read_last_words(handover: Handover, snapshot: Snapshot) -> LastWords:
    """Read them; takes some milliseconds."""
    signal = handover.signal
    return LastWords(
        is_abort=signal is not None and signal.number == SIGABRT,
        abort_message=read_abort_message(handover, snapshot),
        stdout=handover.stdout_end,
        stderr=handover.stderr_end,
    )


def _decode(data: bytes) -> str:
    return data.decode(errors="backslashreplace")
