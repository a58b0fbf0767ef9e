"""What a capture is about: from the request and, if a signal handler captured, from the hand-over."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pytest_gencore.collector.trigger_text import Facts, describe_trigger
from pytest_gencore.runfolder import CLAIM_PREFIX

if TYPE_CHECKING:
    from pytest_gencore.collector.handover import Handover

_SIGINFO_HEAD = struct.Struct("<iii4xQ")
"""``si_signo``, ``si_errno``, ``si_code``, ``si_addr`` of sigaction(2)."""


def is_by_handler(handover: Handover) -> bool:
    """Tell whether a signal handler captured: its request was written before, for whatever might come."""
    return "stacks" not in handover.request


def phase_of(handover: Handover) -> str | None:
    """Return ``setup``, ``call`` or ``teardown``; None outside of a test."""
    phase = handover.phase if is_by_handler(handover) else handover.request["phase"]
    return phase or None


def attempt_of(handover: Handover) -> int:
    """Return 1 for the first run of the test, one more for each rerun."""
    return max(1, handover.attempt) if is_by_handler(handover) else int(handover.request["attempt"])


def signal_of(handover: Handover) -> int:
    """Return the number of the signal behind the capture, 0 without one."""
    return int(_SIGINFO_HEAD.unpack_from(handover.siginfo)[0])


def describe_capture(handover: Handover) -> Facts:
    """Return what a reader must know to understand the stacks."""
    request = handover.request
    number, _, code, address = _SIGINFO_HEAD.unpack_from(handover.siginfo)
    return Facts(
        trigger=request["trigger"],
        pid=handover.pid,
        nodeid=request["nodeid"],
        phase=phase_of(handover),
        worker_id=request["worker_id"],
        signal_number=number or None,
        signal_code=code if number else None,
        fault_address=address if number else None,
        deadline_seconds=request.get("deadline_seconds"),
        deadline_owner=request.get("deadline_source"),
        native_id=handover.tid if is_by_handler(handover) else None,
        rootdir=request.get("rootdir") or "",
    )


def claim_of(handover: Handover) -> str | None:
    """Return the file in the run's folder that keeps others from capturing the same test; None without."""
    claim = handover.request.get("claim")
    is_valid = isinstance(claim, str) and claim.startswith(CLAIM_PREFIX) and "/" not in claim
    return claim if is_valid else None


def describe_state(handover: Handover) -> dict[str, Any]:
    """Return what the state file tells from the start: see ``pytest_gencore.capture.run``."""
    request = handover.request
    return {
        **{key: request[key] for key in ("nodeid", "worker_id", "trigger", "method")},
        "phase": phase_of(handover),
        "attempt": attempt_of(handover),
        "captured_pid": handover.pid,
        "signal": signal_of(handover) or None,
        "deadline_source": request.get("deadline_source"),
        "summary": describe_trigger(describe_capture(handover)),
        "answered": False,
        "slot": handover.slot,
        "claim": claim_of(handover),
    }
