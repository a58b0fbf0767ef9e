"""What cancelled a run: which signal, who sent it, and whether that is worth an archive."""

from __future__ import annotations

import contextlib
import functools
import signal
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.collector.source.procfs import read_process_facts
from pytest_gencore.machine.process import start_ticks
from pytest_gencore.request.model import AFTER_SESSION, BETWEEN_TESTS, SESSION_END
from pytest_gencore.triggers import TRIGGERS

if TYPE_CHECKING:
    from pytest_gencore.collector.source.handover import Handover

_SENT_BY_KERNEL: Final[dict[object, str]] = {
    signal.SIGINT: "Ctrl-C at its terminal",
    getattr(signal, "SIGHUP", None): "its terminal was closed",
}
_QUEUED: Final = -1
"""``SI_QUEUE`` of sigaction(2)."""
_COMMAND_LENGTH: Final = 80


class Sender(NamedTuple):
    """A process that sent a signal."""

    pid: int
    """0: one outside of the PID namespace."""
    uid: int
    command: str | None
    """Its command line for one line of a log; None if it had ended, or may not be read."""

    def __str__(self) -> str:
        if not self.pid:
            return f"a process outside of this PID namespace, uid {self.uid}"
        command = "which has ended" if self.command is None else self.command
        return f"process {self.pid}, {command}, uid {self.uid}"


class Cancel(NamedTuple):
    """What cancelled a run."""

    number: int
    """Of the signal."""
    sender: Sender | None
    """None if the kernel sent it."""
    is_own: bool = False
    """Whether the process sent it to itself."""
    is_seen_late: bool = False
    """Whether a handler of Python saw it, which is not told who sent it."""
    is_passed_on: bool = False
    """Whether the controller of pytest-xdist got the signal, and has told its worker."""

    def __str__(self) -> str:
        name = signal.Signals(self.number).name
        if self.is_passed_on:
            return f"{name} to the controller"
        if self.is_seen_late:
            return f"{name} (who sent it is not known: asyncio handles it)"
        if self.sender is None:
            return f"{name} ({_SENT_BY_KERNEL.get(signal.Signals(self.number), 'sent by the kernel')})"
        return f"{name} (sent by {'itself' if self.is_own else self.sender})"


def read_cancel(handover: Handover) -> Cancel | None:
    """Return what cancelled the run, None for a capture of another trigger."""
    info = handover.signal
    if handover.context.request.trigger != "cancel" or info is None:
        return None
    if info.number >= signal.SIGRTMIN:
        return Cancel(info.value, None, is_passed_on=True)
    if info.code == _QUEUED and not info.sender_pid:  # csrc/cancels.c: gencore_capture_interrupt
        return Cancel(info.number, None, is_seen_late=True)
    if info.code > 0:
        return Cancel(info.number, None)
    sender = _find_sender(info.sender_pid, info.sender_uid, handover.snapshot_pid)
    return Cancel(info.number, sender, is_own=sender.pid == handover.pid)


def wants_archive(handover: Handover) -> bool:
    """Whether there shall be an archive.

    Not where memory is short, of a test that somebody interrupts before it was slow, nor of a worker that
    waits for its controller, or has just run all its tests.
    """
    cancel, request = read_cancel(handover), handover.context.request
    if TRIGGERS[request.trigger].is_only_told:
        return False
    if cancel is None:
        return True
    is_early = handover.place_ns / 1e9 < request.interrupt_after
    at = request.nodeid, request.place
    if request.worker_id is not None and (is_idle(*at) or (is_early and is_done(*at))):
        return False
    return cancel.number != signal.SIGINT or not is_early


def is_idle(nodeid: str | None, place: str) -> bool:
    """Whether a worker waited for its controller."""
    return nodeid is None and place == BETWEEN_TESTS


def is_done(nodeid: str | None, place: str) -> bool:
    """Whether a worker had run its tests, and was about to end."""
    return nodeid is None and place.startswith((AFTER_SESSION, SESSION_END))


@functools.cache
def _find_sender(pid: int, uid: int, snapshot_pid: int) -> Sender:
    """Look at a sender while it is there; a process that began after the snapshot is another one."""
    command = None
    if pid:
        with contextlib.suppress(OSError, ValueError):
            facts = read_process_facts(pid, pid)
            if start_ticks(pid) <= start_ticks(snapshot_pid):
                command = facts.describe_command(_COMMAND_LENGTH)
    return Sender(pid, uid, command)
