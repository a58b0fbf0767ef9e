"""The collector's end of the snapshot: its memory through two pipes, its end."""

from __future__ import annotations

import os
import select
import signal
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ORDER = struct.Struct("<QQQ")
_HELLO = struct.Struct("<iiiiiI")
_READ, _MINCORE, _UNREADABLE, _CRASH, _TRACE = 1, 2, 3, 4, 5
_PIECE = 1024 * 1024
_TRACE_LIMIT = 1024 * 1024
_ORDERS_AHEAD = 256
"""Orders in the pipe at a time: fewer than it holds, so that neither side waits for the other for ever."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What the snapshot says first: errno of each preparation, 0 if it worked."""

    pid: int
    filter_error: int
    oom_error: int
    limit_error: int
    chdir_error: int
    page_size: int


class Snapshot:
    """A frozen copy of the captured process; our child, and ours to end."""

    def __init__(self, pid: int, request_fd: int, reply_fd: int) -> None:
        """Take over the descriptors and wait for the snapshot's first words."""
        self.pid = pid
        self._request = request_fd
        self._reply = reply_fd
        self._pidfd = os.pidfd_open(pid)
        self._buffer = memoryview(bytearray(_PIECE))
        self._status: int | None = None
        os.set_inheritable(request_fd, False)
        os.set_inheritable(reply_fd, False)
        self.hello = Hello(*_HELLO.unpack(self._receive(_HELLO.size)))

    def read(self, address: int, size: int) -> bytes:
        """Return memory; pages that cannot be read are zeros."""
        return b"".join(bytes(piece) for piece in self.stream([(address, size)]))

    def stream(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
        """Yield the memory of (address, size) ranges one behind the other, in pieces of up to a MiB.

        A piece is valid until the next one is asked for.
        """
        ahead: list[int] = []
        source = iter(ranges)
        while True:
            while len(ahead) < _ORDERS_AHEAD:
                order = next(source, None)
                if order is None:
                    break
                self._send(_READ, *order)
                ahead.append(order[1])
            if not ahead:
                return
            for size in ahead:
                yield from self._pieces(size)
            ahead.clear()

    def mincore(self, address: int, pages: int) -> bytes:
        """Ask which pages are in memory: a byte for each, 0xff where the call failed."""
        self._send(_MINCORE, address, pages)
        return self._receive(pages)

    def unreadable_pages(self) -> int:
        """Return how many pages were zeros only because they could not be read."""
        self._send(_UNREADABLE, 0, 0)
        return int.from_bytes(self._receive(8), "little")

    def trace(self, function: int, signal_number: int) -> bytes:
        """Let a copy of it call the function that writes all Python stacks; return what that wrote.

        At most a MiB is kept. Empty if the function did not survive what it read; the snapshot does.
        """
        self._send(_TRACE, function, signal_number)
        kept = bytearray()
        while size := int.from_bytes(self._receive(4), "little"):
            piece = self._receive(size)
            kept += piece[: _TRACE_LIMIT - len(kept)]
        return bytes(kept)

    def copy_to_crash(self) -> int:
        """Let it make a copy that can die of SIGSEGV while it lives on itself; return the copy's pid.

        Raises ArchiveError. Once there is a copy, it must be killed, and ``status_of_copy`` be called.
        """
        self._send(_CRASH, 0, 0)
        pid = int.from_bytes(self._receive(4), "little", signed=True)
        if pid < 0:
            message = f"the snapshot cannot make a copy of itself to crash: {os.strerror(-pid)}"
            self._receive(4)
            raise ArchiveError(message)
        return pid

    def status_of_copy(self, timeout: float) -> int | None:
        """Return the wait status of the copy that was made to crash, None if it lives longer than that.

        Until there is one, the snapshot serves nothing else.
        """
        poll = select.poll()
        poll.register(self._reply, select.POLLIN)
        return int.from_bytes(self._receive(4), "little") if poll.poll(timeout * 1000) else None

    def end(self) -> None:
        """End it, whatever it is doing."""
        if self._status is None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._reap()
        os.close(self._pidfd)

    def _has_ended(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def _reap(self) -> int:
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
        return self._status

    def _send(self, command: int, address: int, size: int) -> None:
        try:
            os.write(self._request, _ORDER.pack(command, address, size))
        except BrokenPipeError:
            self._raise_gone()

    def _receive(self, size: int) -> bytes:
        return b"".join(bytes(piece) for piece in self._pieces(size))

    def _pieces(self, size: int) -> Iterator[memoryview]:
        """Yield what comes; a piece is valid until the next one is asked for."""
        while size:
            count = os.readv(self._reply, [self._buffer[: min(size, _PIECE)]])
            if not count:
                self._raise_gone()
            size -= count
            yield self._buffer[:count]

    def _raise_gone(self) -> None:
        status = self._reap() if self._has_ended(1.0) else 0
        cause = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"
        message = f"the snapshot ended before it was read ({cause})"
        raise ArchiveError(message, help_text="out of memory?")
