"""The collector's life from start to end: see docs/explanation/how-a-capture-works.md."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import psutil

from pytest_gencore.collector import giving_up
from pytest_gencore.collector.captured_process import CapturedProcess
from pytest_gencore.collector.closing import Closing
from pytest_gencore.collector.collection import Product, collect
from pytest_gencore.collector.giving_up import DroppedError
from pytest_gencore.collector.handover import Handover, parse_handover
from pytest_gencore.collector.junit_journal import read_journal
from pytest_gencore.collector.memory import read_memory
from pytest_gencore.collector.messenger import STDERR_FD, Messenger
from pytest_gencore.collector.occasion import describe_state
from pytest_gencore.collector.progress import Progress
from pytest_gencore.collector.snapshot import Snapshot
from pytest_gencore.collector.space import Budget, Disk, describe_os_error
from pytest_gencore.collector.stacks import Stacks, write_answer
from pytest_gencore.collector.state import StateFile
from pytest_gencore.collector.turns import take_turn
from pytest_gencore.errors import GencoreError

_HANDOVER_FD, _ARCHIVE_FD, _STATE_FD, _REQUEST_FD, _REPLY_FD = 3, 4, 5, 6, 7
"""GENCORE_FD_* of csrc/gencore.h."""
_OOM_SCORE = "900"
"""After the snapshot, which has 1000, and before any test."""


def main() -> None:
    """Collect the capture that this process was started for."""
    os.chdir("/")
    with open(_HANDOVER_FD, "rb") as file:
        handover = parse_handover(file.read())
    state = StateFile(_STATE_FD, describe_state(handover))
    process = CapturedProcess(handover.pid, handover.snapshot_pid)
    messenger = Messenger(handover, process, STDERR_FD if handover.has_stderr else None)
    budget = Budget(handover)
    closing = Closing(handover, state, messenger, budget)
    try:
        giving_up.listen()
        _step_back()
        product = _work(handover, state, messenger, closing, budget)
        giving_up.be_deaf()
        closing.publish(product)
    except DroppedError:
        giving_up.be_deaf()
        closing.drop()
    except GencoreError as error:
        giving_up.be_deaf()
        closing.give_up(str(error))
    except OSError as error:
        giving_up.be_deaf()
        closing.give_up(describe_os_error(error, handover.directory))
    except MemoryError:
        giving_up.be_deaf()
        closing.give_up("the collector ran out of memory")
    except Exception as error:
        giving_up.be_deaf()
        closing.give_up(f"{type(error).__name__}: {error}; this is a bug in pytest-gencore")
        raise
    finally:
        giving_up.be_deaf()
        closing.tidy_up()
        process.close()


def _work(
    handover: Handover,
    state: StateFile,
    messenger: Messenger,
    closing: Closing,
    budget: Budget,
) -> Product:
    started = time.monotonic()
    progress = Progress(handover, state, messenger)
    snapshot = Snapshot(handover.snapshot_pid, _REQUEST_FD, _REPLY_FD)
    try:
        stacks = Stacks(handover, snapshot)
        closing.answer = stacks.make_answer()
        if write_answer(handover, closing.answer):
            state.tell(answered=True)
        messenger.prepare(closing.answer)
        closing.journal = read_journal(handover, snapshot) if handover.request.get("local") else None
        closing.write_junit_early()
        progress.add_check(closing.check)
        with take_turn(state.queue, progress.check), os.fdopen(_ARCHIVE_FD, "wb", buffering=0) as file:
            state.work()
            giving_up.start_deadline()
            progress.add_check(Disk(file.fileno(), handover.directory).check, frequent=True)
            progress.add_check(lambda: budget.check(os.fstat(file.fileno()).st_size))
            progress.check()
            memory = read_memory(snapshot)
            if stacks.add_pystack(memory):
                closing.answer = stacks.make_answer()
                write_answer(handover, closing.answer)
                state.tell(summary=closing.answer[0])
            product = collect(handover, snapshot, memory, stacks, file, progress, started)
            progress.check()
            return product
    finally:
        snapshot.end()


def _step_back() -> None:
    """Let tests use the disk first, and let the kernel kill us first: see oom_score_adj in proc(5).

    Our priority for processors is lowered by the launcher.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    with contextlib.suppress(psutil.Error, OSError):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_BE, 7)


if __name__ == "__main__":
    sys.exit("started by pytest_gencore.capture only")
