"""What a capture is about, as its parts tell it: to people, in the state file, in the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gencore.collector.stacks.trigger_text import Facts, describe_trigger
from pytest_gencore.run.state import CaptureState

if TYPE_CHECKING:
    from pytest_gencore.collector.source.handover import Handover


def describe_capture(handover: Handover) -> Facts:
    """Return what a reader must know to understand the stacks."""
    request, signal = handover.context.request, handover.signal
    return Facts(
        trigger=request.trigger,
        pid=handover.pid,
        nodeid=request.nodeid,
        phase=handover.phase,
        place=request.place,
        worker_id=request.worker_id,
        signal_number=signal.number if signal else None,
        signal_code=signal.code if signal else None,
        fault_address=signal.address if signal else None,
        deadline_seconds=request.deadline_seconds,
        deadline_source=request.deadline_source,
        exception=request.exception,
        is_raising=request.moment == "raise",
        native_id=handover.tid if handover.context.by_handler else None,
        rootdir=handover.context.run.session.rootdir,
    )


def describe_state(handover: Handover) -> CaptureState:
    """Return what the state file tells from the start."""
    request, signal = handover.context.request, handover.signal
    return CaptureState(
        captured_pid=handover.pid,
        trigger=request.trigger,
        method=request.method,
        nodeid=request.nodeid,
        phase=handover.phase,
        place=request.place,
        attempt=handover.attempt,
        worker_id=request.worker_id,
        signal=signal.number if signal else None,
        deadline_source=request.deadline_source,
        summary=describe_trigger(describe_capture(handover)),
        slot=handover.slot,
        claim=handover.context.claim,
    )
