"""The collector's end of the snapshot: its memory through two pipes, its end."""

from __future__ import annotations

import os
import select
import signal
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from pytest_gencore.errors import ArchiveError
from pytest_gencore.machine.patience import Patience, activity_of, describe_standstill
from pytest_gencore.protocol import COMMAND, SNAPSHOT_STATUS, Command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PIECE = 1024 * 1024
_TRACE_LIMIT = 1024 * 1024
_PROBE_LIMIT = 8 * 1024 * 1024
_COMMANDS_AHEAD = 128
"""Commands in the pipe at a time: fewer than it holds, so that neither side waits for the other for ever.

A pipe has one page where its user has many, see ``pipe-user-pages-soft`` in pipe(7).
"""
_TICK_SECONDS = 1.0
_END_SECONDS = 10.0


class SnapshotStatus(NamedTuple):
    """What the snapshot says first: errno of each preparation, 0 if it worked."""

    pid: int
    filter_error: int
    oom_error: int
    limit_error: int
    chdir_error: int
    page_size: int


class Snapshot:
    """A frozen copy of the captured process; our child, and ours to end."""

    def __init__(self, pid: int, command_fd: int, reply_fd: int) -> None:
        """Take over the descriptors and wait for the snapshot's status."""
        self.pid = pid
        self._commands = command_fd
        self._replies = reply_fd
        self._pidfd = os.pidfd_open(pid)
        self._buffer = memoryview(bytearray(_PIECE))
        self._wait_status: int | None = None
        self._owed = 0
        """Bytes of memory that were asked for and have not come."""
        self._streams = 0
        os.set_inheritable(command_fd, False)
        os.set_inheritable(reply_fd, False)
        self.status = SnapshotStatus(**SNAPSHOT_STATUS.unpack(self._receive(SNAPSHOT_STATUS.size)))

    def read(self, address: int, size: int) -> bytes:
        """Return memory; pages that cannot be read are zeros."""
        return b"".join(bytes(piece) for piece in self.stream([(address, size)]))

    def stream(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
        """Yield the memory of (address, size) ranges one behind the other, in pieces of up to a MiB.

        A piece is valid until the next one is asked for. A stream may be given up, but not be gone on with
        after anything else has been asked of the snapshot.
        """
        self._drain()
        self._streams += 1
        number = self._streams
        source = _cut(ranges)
        while pieces := list(islice(source, _COMMANDS_AHEAD)):
            for address, size in pieces:
                self._send(Command.READ, address, size)
                self._owed += size
            while self._owed:
                piece = self._receive_some(self._owed)
                self._owed -= len(piece)
                yield piece
                if self._streams != number:
                    raise RuntimeError("another question came between the pieces of a stream")

    def mincore(self, address: int, pages: int) -> bytes:
        """Ask which pages are in memory: a byte for each, 0xff where the call failed."""
        self._ask(Command.MINCORE, address, pages)
        return self._receive(pages)

    def unreadable_pages(self) -> int:
        """Return how many pages were zeros only because they could not be read."""
        self._ask(Command.UNREADABLE, 0, 0)
        return int.from_bytes(self._receive(8), "little")

    def trace(self, function: int, signal_number: int) -> bytes:
        """Let a copy of it call the function that writes all Python stacks; return what that wrote.

        At most a MiB is kept. Empty if the function did not survive what it read; the snapshot does.
        """
        self._ask(Command.TRACE, function, signal_number)
        return self._receive_pieces(_TRACE_LIMIT)

    def probe(self, function: int, milliseconds: int) -> bytes:
        """Let a copy of it run Python for so long at most; return what that wrote, of that 8 MiB at most.

        Whatever the Python code did not survive, what it wrote before is there.
        """
        self._ask(Command.PROBE, function, milliseconds)
        return self._receive_pieces(_PROBE_LIMIT)

    def _receive_pieces(self, limit: int) -> bytes:
        kept = bytearray()
        while size := int.from_bytes(self._receive(4), "little"):
            piece = self._receive(size)
            kept += piece[: limit - len(kept)]
        return bytes(kept)

    def copy_to_crash(self) -> int:
        """Let it make a copy that can die of SIGSEGV while it lives on itself; return the copy's pid.

        Raises ArchiveError. Once there is a copy, it must be killed, and ``status_of_copy`` be called.
        """
        self._ask(Command.CRASH, 0, 0)
        pid = int.from_bytes(self._receive(4), "little", signed=True)
        if pid <= 0:  # never 0, which kill(2) would take for our own group
            message = f"the snapshot cannot make a copy of itself to crash: {os.strerror(-pid)}"
            self._receive(4)
            raise ArchiveError(message)
        return pid

    def status_of_copy(self, timeout: float) -> int | None:
        """Return the wait status of the copy that was made to crash, None if it lives longer than that.

        Until there is one, the snapshot serves nothing else.
        """
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        return int.from_bytes(self._receive(4), "little") if poll.poll(timeout * 1000) else None

    def end(self) -> None:
        """End it, whatever it is doing; one that the kernel does not let end is left to the kernel."""
        if self._wait_status is None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            if self._has_ended(_END_SECONDS):
                self._reap()
        os.close(self._pidfd)

    def _has_ended(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def _reap(self) -> int:
        if self._wait_status is None:
            self._wait_status = os.waitpid(self.pid, 0)[1]
        return self._wait_status

    def _ask(self, command: int, address: int, size: int) -> None:
        self._drain()
        self._streams += 1
        self._send(command, address, size)

    def _drain(self) -> None:
        """Read what a stream that was given up has left: it would be taken for the next answer."""
        while self._owed:
            self._owed -= len(self._receive_some(self._owed))

    def _send(self, command: int, address: int, size: int) -> None:
        try:
            os.write(self._commands, COMMAND.pack(command, address, size))
        except BrokenPipeError:
            self._raise_gone()

    def _receive(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            received += self._receive_some(size - len(received))
        return bytes(received)

    def _receive_some(self, size: int) -> memoryview:
        """Return the next bytes, valid until more are asked for; raises ArchiveError if none come."""
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        patience = Patience()
        while not poll.poll(_TICK_SECONDS * 1000):
            if patience.has_ended(activity_of(self.pid)):
                raise ArchiveError(describe_standstill("the snapshot", self.pid, patience.seconds))
        count = os.readv(self._replies, [self._buffer[: min(size, _PIECE)]])
        if not count:
            self._raise_gone()
        return self._buffer[:count]

    def _raise_gone(self) -> NoReturn:
        if not self._has_ended(1.0):
            raise ArchiveError("the snapshot closed its pipes before it was read")
        status = self._reap()
        cause = (
            f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
        )
        message = f"the snapshot ended before it was read ({cause})"
        raise ArchiveError(message)


def _cut(ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges in pieces, so that little is on its way when a stream is given up."""
    for address, size in ranges:
        for offset in range(0, size, _PIECE):
            yield address + offset, min(_PIECE, size - offset)
