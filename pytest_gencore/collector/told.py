"""What a process tells its helper of a capture, as the parts of a collector need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.collector.diagnosis.diagnosis import Diagnosis
from pytest_gencore.collector.diagnosis.parse import parse_facts
from pytest_gencore.collector.source.handover import Handover
from pytest_gencore.collector.stacks.model import Frame, PythonThread
from pytest_gencore.protocol import Phase
from pytest_gencore.request.context import decode_context
from pytest_gencore.request.model import AFTER_SESSION, CORE_FILTER_DEFAULT
from pytest_gencore.triggers import TRIGGERS
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from pathlib import Path

_LATE_SECONDS: Final = 0.25
"""A thread that only waits for its turn is less late."""


class _PlainHandover(Handover):
    """What a captured process tells, whose run's folder is where its name says."""

    __slots__ = ()

    @property
    def run_folder(self) -> Path:
        return self.directory / self.context.run.run_folder


def make_handover(told: dict[str, Any]) -> Handover:
    """Return it with nothing of what only the extension knows."""
    context = decode_context(told["context"].encode())
    core = told["core"]
    if core is None or core["path"] is None:
        context = context._replace(request=context.request._replace(type="text"))
    phase = Phase(told["phase"]).text if context.by_handler else context.request.phase
    numbers = dict.fromkeys(
        (
            *("snapshot_pid", "stop_signal", "stop_ns", "snapshot_ns", "pause_ns"),
            *("stopped_at_ns", "hold_ns", "trace_function", "all_threads_signal", "own_thread_signal"),
            *("probe_function", "forked_signal", "ident_offset", "signed_bits", "cpu_ns", "wall_ns"),
            *("place_ns", "journal_address", "journal_size", "workers_address", "workers_count"),
            *("child_count", "descriptor_count"),
        ),
        0,
    )
    native = told["stacks"][0]["native_id"] if told["stacks"] else None
    return _PlainHandover(
        **numbers,
        core_filter=CORE_FILTER_DEFAULT,  # the systems know none: all is in their cores
        name=str(told["name"]),
        pid=int(told["pid"]),
        tid=int(native or 0),
        place_tid=int(native or 0),
        started_ns=int(told["started_ns"]),
        slot=int(told["slot"]),
        attempt=int(told["attempt"]) if context.by_handler else context.request.attempt,
        phase=phase or None,
        has_stderr=False,
        children=b"",
        descriptors=b"",
        siginfo=bytes(128),
        stdout_end=b"",
        stderr_end=b"",
        threads=(),
        context=context,
    )


def make_diagnosis(told: dict[str, Any], handover: Handover) -> Diagnosis:
    """Return what everything waited for; without a verdict if it was looked at too late for one."""
    request, busy = handover.context.request, told["busy"]
    diagnosis = Diagnosis(
        parse_facts(str(told["facts"]).encode(errors="replace")),
        None,
        handover.context.run.session.folders,
        is_hang=TRIGGERS[request.trigger].is_hang,
        busy=busy if isinstance(busy, float) else None,
        is_over=request.place.startswith(AFTER_SESSION),
        was_seen=True,
    )
    if describe_late(told["late"]):
        diagnosis.verdict = None
    return diagnosis


def describe_late(seconds: float) -> str:
    """Return one line on a look that came so long after its deadline; empty if it came in time."""
    if seconds <= _LATE_SECONDS:
        return ""
    return (
        f"looked at {format_duration(round(seconds, 1))} after the deadline, too late for a verdict: "
        "something kept the GIL, or the machine was busy, and what is shown may have come after it"
    )


def make_thread(stack: dict[str, Any], *, is_own: bool) -> PythonThread:
    """Return a thread with its frames."""
    frames = (
        Frame(
            file=str(file),
            line=line if isinstance(line, int) else None,
            function=str(function),
            locals=tuple((str(name), str(value)) for name, value in found),
        )
        for file, line, function, found in reversed(stack["frames"])
    )
    return PythonThread(
        stack["name"],
        stack["native_id"],
        stack["ident"],
        tuple(frames),
        is_current=is_own,
        is_cut=stack["is_cut"],
    )
