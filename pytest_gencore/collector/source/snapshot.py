"""The collector's end of the snapshot: its memory, its answers through two pipes, its end."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from typing import Final, NamedTuple, NoReturn

from pytest_gencore.errors import ArchiveError
from pytest_gencore.machine.patience import Patience, activity_of, describe_standstill
from pytest_gencore.protocol import COMMAND, SNAPSHOT_STATUS, Command

_PIECE: Final = 1024 * 1024
_TRACE_LIMIT = 1024 * 1024
_PROBE_LIMIT = 8 * 1024 * 1024
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
        """Take over the descriptors and wait for the snapshot's status; one that does not say it is ended."""
        self.pid = pid
        self._commands = command_fd
        self._replies = reply_fd
        self._pidfd = os.pidfd_open(pid)
        self._wait_status: int | None = None
        self._lock = threading.Lock()
        """Of the pipes: one question at a time."""
        self._memory: int | None = None
        """``/proc/PID/mem``; None where the kernel refuses it, see PTRACE_MODE_ATTACH in ptrace(2)."""
        os.set_inheritable(command_fd, False)
        os.set_inheritable(reply_fd, False)
        try:
            self.status = SnapshotStatus(**SNAPSHOT_STATUS.unpack(self._receive(SNAPSHOT_STATUS.size)))
        except BaseException:
            self.end()  # stopped before its first step it would outlive us, with the descriptors of the run
            raise
        with contextlib.suppress(OSError):
            self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def read(self, address: int, size: int) -> bytes:
        """Return memory; pages that cannot be read are zeros."""
        buffer = bytearray(size)
        self.read_into(address, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, address: int, buffer: memoryview) -> None:
        """Fill a buffer with memory, by the snapshot itself; pages that cannot be read are zeros.

        May be called in any thread. Raises ArchiveError if the snapshot is gone, or does not get on.
        """
        with self._lock:
            self._send(Command.READ, address, len(buffer))
            self._receive_into(buffer)

    def copy_into(self, address: int, buffer: memoryview) -> None:
        """Do as ``read_into``, in many threads at once where the kernel lets us read the memory.

        For memory that no file is behind: whoever reads a file's may wait for its disk for ever.
        """
        while buffer and self._memory is not None:
            try:
                count = os.preadv(self._memory, [buffer], address)
            except (OSError, OverflowError):  # a page that cannot be read: protected, or of a device
                count = 0
            page_left = self.status.page_size - address % self.status.page_size
            if not count:
                count = min(page_left, len(buffer))
                self.read_into(address, buffer[:count])
            address += count
            buffer = buffer[count:]
        if buffer:
            self.read_into(address, buffer)

    def mincore(self, address: int, pages: int) -> bytes:
        """Ask which pages are in memory: a byte for each, 0xff where the call failed."""
        with self._lock:
            self._send(Command.MINCORE, address, pages)
            return self._receive(pages)

    def unreadable_pages(self) -> int:
        """Return how many pages were zeros only because they could not be read."""
        with self._lock:
            self._send(Command.UNREADABLE, 0, 0)
            return int.from_bytes(self._receive(8), "little")

    def trace(self, function: int, signal_number: int) -> bytes:
        """Let a copy of it call the function that writes all Python stacks; return what that wrote.

        At most a MiB is kept. Empty if the function did not survive what it read; the snapshot does.
        """
        with self._lock:
            self._send(Command.TRACE, function, signal_number)
            return self._receive_pieces(_TRACE_LIMIT)

    def probe(self, function: int, milliseconds: int) -> bytes:
        """Let a copy of it run Python for so long at most; return what that wrote, of that 8 MiB at most.

        Whatever the Python code did not survive, what it wrote before is there.
        """
        with self._lock:
            self._send(Command.PROBE, function, milliseconds)
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
        self._send(Command.CRASH, 0, 0)
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

    def begin_to_end(self) -> None:
        """Let the kernel take it down while we go on: nothing is asked of it any more."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def end(self) -> None:
        """End it, whatever it is doing; one that the kernel does not let end is left to the kernel."""
        if self._wait_status is None:
            self.begin_to_end()
            if self._has_ended(_END_SECONDS):
                self._reap()
        os.close(self._pidfd)
        if self._memory is not None:
            os.close(self._memory)
            self._memory = None

    def _has_ended(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def _reap(self) -> int:
        if self._wait_status is None:
            self._wait_status = os.waitpid(self.pid, 0)[1]
        return self._wait_status

    def _send(self, command: int, address: int, size: int) -> None:
        try:
            os.write(self._commands, COMMAND.pack(command, address, size))
        except BrokenPipeError:
            self._raise_gone()

    def _receive(self, size: int) -> bytes:
        buffer = bytearray(size)
        self._receive_into(memoryview(buffer))
        return bytes(buffer)

    def _receive_into(self, buffer: memoryview) -> None:
        while buffer:
            buffer = buffer[self._receive_some(buffer) :]

    def _receive_some(self, buffer: memoryview) -> int:
        """Take the next bytes and return how many; raises ArchiveError if none come."""
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        patience = Patience()
        while not poll.poll(_TICK_SECONDS * 1000):
            if patience.has_ended(activity_of(self.pid)):
                raise ArchiveError(describe_standstill("the snapshot", self.pid, patience.seconds))
        count = os.readv(self._replies, [buffer])
        if not count:
            self._raise_gone()
        return count

    def _raise_gone(self) -> NoReturn:
        if not self._has_ended(1.0):
            raise ArchiveError("the snapshot closed its pipes before it was read")
        status = self._reap()
        cause = (
            f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
        )
        message = f"the snapshot ended before it was read ({cause})"
        raise ArchiveError(message)
