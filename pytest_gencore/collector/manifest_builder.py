"""Make the manifest of a capture: what the archive is, why it was made, what it lacks, how to open it."""

from __future__ import annotations

import datetime
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pytest_gencore.archive.manifest import (
    CoreFacts,
    Library,
    Manifest,
    PythonVersion,
    SenderFacts,
    Thread,
    Timings,
    TriggerFacts,
    Versions,
)
from pytest_gencore.collector.cancelled import read_cancel
from pytest_gencore.collector.stacks.trigger_text import find_address, name_code, name_signal
from pytest_gencore.installed import plain_path
from pytest_gencore.protocol import ThreadState
from pytest_gencore.triggers import TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.collector.cancelled import Sender
    from pytest_gencore.collector.core.core_stream import CoreStream
    from pytest_gencore.collector.files.libraries import Library as OpenLibrary
    from pytest_gencore.collector.source.handover import Handover, ThreadRecord
    from pytest_gencore.collector.stacks.capture_stacks import Stacks
    from pytest_gencore.methods import CoreMethod

_NOT_REACHED: Final = {
    ThreadState.MASKED: "it blocks the signal that stops threads",
    ThreadState.SILENT: "it did not answer in time",
    ThreadState.UNASKED: "no more signals could be queued for it (RLIMIT_SIGPENDING)",
}


def build_manifest(
    handover: Handover,
    *,
    stacks: Stacks,
    method: CoreMethod,
    method_reason: str,
    core: CoreStream | None,
    libraries: list[OpenLibrary],
    notices: list[str],
    collect_seconds: float | None,
) -> Manifest:
    """Describe the archive; ``collect_seconds`` is None while it is not finished."""
    run, request = handover.context.run, handover.context.request
    created = datetime.datetime.fromtimestamp(handover.started_ns / 1e9, datetime.timezone.utc)
    return Manifest(
        name=handover.name,
        created=created.isoformat(timespec="milliseconds"),
        complete=collect_seconds is not None,
        trigger=_describe_trigger(handover, stacks.words.abort_message),
        diagnosis=stacks.diagnosis.describe(),
        last_output=stacks.words.describe_output(),
        nodeid=request.nodeid,
        phase=handover.phase,
        place=request.place,
        attempt=handover.attempt,
        worker_id=request.worker_id,
        pid=handover.pid,
        child_of=request.child_of or None,
        threads=tuple(_describe_thread(thread) for thread in handover.threads),
        threads_stopped=handover.stop_signal != 0,
        type=request.type,
        method=method,
        method_reason=method_reason,
        core=_describe_core(core, handover.core_filter) if core else None,
        notices=(*(core.notices if core else ()), *notices),
        executable=plain_path(run.executable),
        libraries=tuple(_describe_library(library) for library in libraries),
        timings=Timings(
            stop_ms=handover.stop_ns / 1e6,
            snapshot_ms=handover.snapshot_ns / 1e6,
            pause_ms=_pause_ms(handover, is_finished=collect_seconds is not None),
            held=handover.hold_ns > 0,
            collect_s=collect_seconds,
        ),
        versions=Versions(
            pytest_gencore=run.version,
            python=PythonVersion(implementation=run.python_implementation, version=run.python_version),
            kernel=run.kernel,
            machine=run.machine,
        ),
        open_with=f"gencore {'debug' if core else 'stacks'} {handover.name}.tar.gz",
    )


def build_manifest_of_libraries(
    capture: Manifest, name: str, libraries: Sequence[OpenLibrary], notices: Sequence[str]
) -> Manifest:
    """Describe the archive ``name`` of libraries that the collector of a capture has written."""
    return replace(
        capture,
        name=name,
        complete=True,
        type="libraries",
        diagnosis=None,
        last_output=(),
        core=None,
        method_reason="there is no core",
        libraries=tuple(_describe_library(library) for library in libraries),
        notices=tuple(notices),
        open_with="",
    )


def _describe_core(core: CoreStream, core_filter: int) -> CoreFacts:
    return CoreFacts(
        size=core.size,
        data_size=core.data_size,
        truncated=core.truncated,
        coredump_filter=f"{core_filter:#x}",
    )


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


def _describe_trigger(handover: Handover, abort_message: str | None) -> TriggerFacts:
    request, signal = handover.context.request, handover.signal
    if not TRIGGERS[request.trigger].has_signal:
        signal = None  # that of a timer is no news
    cancel = read_cancel(handover)
    number = cancel.number if cancel else signal.number if signal else None
    address = find_address(signal.number, signal.code, signal.address) if signal else None
    return TriggerFacts(
        kind=request.trigger,
        signal=None if number is None else name_signal(number),
        signal_number=number,
        code=signal.code if signal else None,
        code_name=name_code(signal.number, signal.code) if signal else None,
        address=None if address is None else f"{address:#x}",
        abort_message=abort_message,
        deadline_s=request.deadline_seconds,
        deadline_source=request.deadline_source,
        sender=_describe_sender(cancel.sender) if cancel and cancel.sender else None,
        exception=request.exception,
    )


def _describe_sender(sender: Sender) -> SenderFacts:
    return SenderFacts(pid=sender.pid, uid=sender.uid, command=sender.command)


def _describe_thread(thread: ThreadRecord) -> Thread:
    reason = None if thread.reached else _NOT_REACHED[thread.state]
    return Thread(tid=thread.tid, name=thread.name, native_registers=thread.reached, reason=reason)


def _describe_library(library: OpenLibrary) -> Library:
    return Library(
        path=library.path,
        build_id=library.build_id,
        size=library.size,
        included=library.source is not None,
        note=library.note,
        aliases=library.aliases,
        sha256=library.sha256,
    )
