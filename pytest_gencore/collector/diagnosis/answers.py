"""Children: asked where they stand, and what they say; see csrc/forked.c.

Only a child that runs the extension, with a handler of the signal, may be sent it: it would end any other.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.collector.cancelled import wants_archive
from pytest_gencore.collector.diagnosis.system.living import read_start
from pytest_gencore.collector.source.procfs import read_mappings
from pytest_gencore.machine.process import is_alive
from pytest_gencore.run.files import ANSWER, ASKED_TO_DUMP

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.collector.diagnosis.system.children import Child
    from pytest_gencore.collector.source.handover import Handover

ANSWER_SECONDS: Final = 0.5
"""For all of them together."""
_ASKED: Final = 16
_LIBRARY: Final = b"/pytest_gencore/capture/_native."
_YOUNGEST: Final = 0.2
"""Seconds: a younger child may be about to start a program, which does not know the signal."""
_OF_SIGNALS: Final = ("pause", "sigsuspend", "sigtimedwait", "signalfd")
"""Calls of the kernel that a signal would end, or that are about signals."""
_BYTES: Final = 4 * 1024 * 1024
_PIECE: Final = 65536


class Answer(NamedTuple):
    """What one child has said."""

    stacks: str
    """Of its threads, by faulthandler; the one that has answered is the current one."""
    facts: bytes
    """What the probe has written: only of children by fork."""


def ask_children(handover: Handover, children: list[Child]) -> dict[int, Answer]:
    """Return what each child that could be asked has said in time; empty texts of one that has not.

    With ``dumps_children`` each captures itself afterwards.
    """
    if not (children and handover.forked_signal):
        return {}
    library = _find_library(handover.snapshot_pid)
    if library is None:
        return {}
    answers: dict[int, bytes] = {}
    files: dict[int, tuple[int, Path]] = {}
    try:
        for child in children:
            waits_for_signal = any(call in child.call or call in child.channel for call in _OF_SIGNALS)
            if len(answers) < _ASKED and child.age >= _YOUNGEST and not waits_for_signal:
                path = handover.run_folder / ANSWER.named(child.pid)
                file = _ask(child, library, handover, path)
                if file is not None:
                    files[child.pid] = file, path
                    answers[child.pid] = b""
        _await(answers, {file: pid for pid, (file, _) in files.items()})
    finally:
        for file, path in files.values():
            os.close(file)
            with suppress(OSError):
                path.unlink()
    return {pid: _parse(data) for pid, data in answers.items()}


def _parse(data: bytes) -> Answer:
    stacks, _, facts = data.partition(b"\0")
    return Answer(stacks.decode(errors="replace"), facts)


def _find_library(pid: int) -> tuple[object, ...] | None:
    """Return what identifies the extension that a process runs; None if it has none."""
    with suppress(OSError, ValueError):
        for mapping in read_mappings(pid, with_sizes=False):
            if mapping.executable and _LIBRARY in mapping.path:
                return mapping.device, mapping.inode, mapping.offset
    return None


def _ask(child: Child, library: tuple[object, ...], handover: Handover, path: Path) -> int | None:
    """Ask a child; return the descriptor of its answer, None if it cannot be asked."""
    try:
        process = os.pidfd_open(child.pid)
    except OSError:
        return None
    file = None
    try:
        if not is_alive(child.pid, child.began) or _find_library(child.pid) != library:
            return None
        os.mkfifo(path, 0o600)
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        if _takes_signal(child.pid, handover.forked_signal):
            if handover.context.request.dumps_children and wants_archive(handover):
                (handover.run_folder / ASKED_TO_DUMP.named(child.pid)).touch(mode=0o600)
            signal.pidfd_send_signal(process, handover.forked_signal)
            return file
    except FileExistsError:
        return None  # another collector asks it
    except OSError:
        pass
    finally:
        os.close(process)
    with suppress(OSError):
        path.unlink()
    if file is not None:
        os.close(file)
    return None


def _takes_signal(pid: int, number: int) -> bool:
    """Whether a process runs or sleeps as usual, as our user, and has a handler for a signal."""
    fields = {
        name: value.split()
        for name, _, value in (
            line.partition(b":") for line in read_start(f"/proc/{pid}/status").split(b"\n")
        )
    }
    bit = 1 << (number - 1)
    try:
        return (
            fields[b"State"][0] in (b"R", b"S")
            and int(fields[b"Uid"][1]) == os.geteuid()
            and bool(int(fields[b"SigCgt"][0], 16) & bit)
            and not int(fields[b"SigBlk"][0], 16) & bit
        )
    except (LookupError, ValueError):
        return False


def _await(answers: dict[int, bytes], pids: dict[int, int]) -> None:
    """Read all answers as they come, until the last one has ended or the time is over."""
    deadline = time.monotonic() + ANSWER_SECONDS
    poll = select.poll()
    for file in pids:
        poll.register(file, select.POLLIN)
    left = len(pids)
    while left and (seconds := deadline - time.monotonic()) > 0:
        for file, _ in poll.poll(seconds * 1000):
            data = os.read(file, _PIECE)
            answers[pids[file]] += data
            if not data or len(answers[pids[file]]) > _BYTES:
                poll.unregister(file)
                left -= 1
