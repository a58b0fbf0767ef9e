"""What a capture is about, as its parts tell it: to people, in the state file, in the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.cancelled import read_cancel
from pytest_gencore.collector.source.procfs import read_process_facts
from pytest_gencore.collector.stacks.trigger_text import Facts, describe_trigger
from pytest_gencore.run.state import CaptureState
from pytest_gencore.triggers import TRIGGERS

if TYPE_CHECKING:
    from pytest_gencore.collector.source.handover import Handover

_COMMAND_LENGTH: Final = 80


def describe_capture(handover: Handover) -> Facts:
    """Return what a reader must know to understand the stacks."""
    request, signal = handover.context.request, handover.signal
    cancel = read_cancel(handover)
    return Facts(
        trigger=request.trigger,
        pid=handover.pid,
        child=_describe_child(handover) if request.child_of else "",
        nodeid=request.nodeid,
        phase=handover.phase,
        place=request.place,
        worker_id=request.worker_id,
        signal_number=signal.number if signal else None,
        signal_code=signal.code if signal else None,
        fault_address=signal.address if signal else None,
        deadline_seconds=request.deadline_seconds,
        deadline_source=request.deadline_source,
        cancel=str(cancel or ""),
        memory=request.memory,
        place_seconds=handover.place_ns / 1e9 if cancel else None,
        exception=request.exception,
        is_raising=request.moment == "raise",
        native_id=_find_subject(handover),
        folders=handover.context.run.session.folders,
    )


def _describe_child(handover: Handover) -> str:
    """Return its command line for one line; its snapshot has it, too, and is still there."""
    try:
        facts = read_process_facts(handover.snapshot_pid, handover.pid)
    except (OSError, ValueError):
        return "command line not known"
    return facts.describe_command(_COMMAND_LENGTH)


def _find_subject(handover: Handover) -> int | None:
    """Return the thread that the capture is about; None: the one that made it.

    Of a signal to the process the kernel chooses the thread; memory is watched by one of ours.
    """
    if not handover.context.by_handler:
        return None
    kind = TRIGGERS[handover.context.request.trigger]
    return handover.place_tid if kind.by_any_thread else handover.tid


def describe_state(handover: Handover) -> CaptureState:
    """Return what the state file tells from the start."""
    request, signal, cancel = handover.context.request, handover.signal, read_cancel(handover)
    return CaptureState(
        captured_pid=handover.pid,
        trigger=request.trigger,
        method=request.method,
        has_core=request.has_core,
        nodeid=request.nodeid,
        phase=handover.phase,
        place=request.place,
        child_of=request.child_of,
        attempt=handover.attempt,
        worker_id=request.worker_id,
        signal=cancel.number if cancel else signal.number if signal else None,
        deadline_source=request.deadline_source,
        summary=describe_trigger(describe_capture(handover)),
        slot=handover.slot,
        claim=handover.context.claim,
    )
