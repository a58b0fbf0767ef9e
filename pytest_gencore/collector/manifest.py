"""The manifest: what the archive is, why it was made, what it lacks, and how to open it."""

from __future__ import annotations

import datetime
import json
import time
from typing import TYPE_CHECKING, Any

from pytest_gencore.collector.occasion import attempt_of, phase_of
from pytest_gencore.protocol import ThreadState

if TYPE_CHECKING:
    from pytest_gencore.collector.cores import CoreStream
    from pytest_gencore.collector.handover import Handover, ThreadRecord
    from pytest_gencore.collector.libraries import Library

SCHEMA_VERSION = 1
_NOT_REACHED = {
    ThreadState.MASKED: "it blocks the signal that stops threads",
    ThreadState.SILENT: "it did not answer in time",
}


def build_manifest(
    handover: Handover,
    *,
    method: str,
    method_reason: str,
    core: CoreStream,
    libraries: list[Library],
    notices: list[str],
    collect_seconds: float | None,
) -> dict[str, Any]:
    """Describe the archive; ``collect_seconds`` is None while it is not finished."""
    request = handover.request
    started = datetime.datetime.fromtimestamp(handover.started_ns / 1e9, datetime.timezone.utc)
    return {
        "schema_version": SCHEMA_VERSION,
        "name": handover.name,
        "created": started.isoformat(timespec="milliseconds"),
        "complete": collect_seconds is not None,
        **{key: request[key] for key in ("trigger", "nodeid", "worker_id")},
        "phase": phase_of(handover),
        "attempt": attempt_of(handover),
        "pid": handover.pid,
        "threads": [_describe_thread(thread) for thread in handover.threads],
        "threads_stopped": handover.stop_signal != 0,
        "method": method,
        "method_reason": method_reason,
        "core": {
            "size": core.size,
            "data_size": core.data_size,
            "truncated": core.truncated,
            "coredump_filter": f"{handover.core_filter:#x}",
        },
        "notices": [*core.notices, *notices],
        "executable": request["executable"],
        "libraries": [
            {
                "path": library.path,
                "build_id": library.build_id,
                "size": library.size,
                "included": library.source is not None,
                "note": library.note,
                "aliases": list(library.aliases),
            }
            for library in libraries
        ],
        "timings": {
            "stop_ms": handover.stop_ns / 1e6,
            "snapshot_ms": handover.snapshot_ns / 1e6,
            "pause_ms": _pause_ms(handover, is_finished=collect_seconds is not None),
            "held": handover.hold_ns > 0,
            "collect_s": collect_seconds,
        },
        "versions": {
            "pytest_gencore": request["pytest_gencore"],
            "python": request["python"],
            "kernel": request["kernel"],
            "machine": request["machine"],
        },
        "open_with": f"gencore debug {handover.name}.tar.gz",
    }


def _pause_ms(handover: Handover, *, is_finished: bool) -> float | None:
    """Return how long the other threads stood still, in milliseconds.

    Of a held process: until now, as its threads go on when the collector ends. None while that is not known.
    """
    if not handover.hold_ns:
        return handover.pause_ns / 1e6
    if not is_finished:
        return None
    stood_ns = max(time.monotonic_ns() - handover.stopped_at_ns, handover.pause_ns)
    return min(stood_ns, handover.pause_ns + handover.hold_ns) / 1e6


def encode_manifest(manifest: dict[str, Any]) -> bytes:
    """Encode it as indented JSON."""
    return json.dumps(manifest, indent=1, ensure_ascii=True).encode()


def _describe_thread(thread: ThreadRecord) -> dict[str, Any]:
    description: dict[str, Any] = {
        "tid": thread.tid,
        "name": thread.name,
        "native_registers": thread.reached,
    }
    if not thread.reached:
        description["reason"] = _NOT_REACHED[thread.state]
    return description
