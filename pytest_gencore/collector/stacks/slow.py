"""A test on the way to its deadline, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.describe import describe_capture
from pytest_gencore.collector.stacks.capture_stacks import read_python_threads
from pytest_gencore.collector.stacks.lines import is_project
from pytest_gencore.collector.stacks.trigger_text import describe_trigger
from pytest_gencore.request.model import SLOW_PART
from pytest_gencore.texts import printable
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot

_LINE_LENGTH: Final = 400


def describe_slow(handover: Handover, snapshot: Snapshot) -> str:
    """Return the line: which test, what it has taken of its time, and where in the project it is."""
    request = handover.context.request
    facts = describe_capture(handover)
    whole = request.deadline_seconds or 0
    taken = f"{format_duration(round(whole * SLOW_PART, 1))} of {format_duration(whole)}"
    line = f"{describe_trigger(facts)}: more than {taken} (timeout of {request.deadline_source})"
    threads = read_python_threads(handover, snapshot).threads
    frames = next((thread.frames for thread in threads if thread.native_id == handover.tid), ())
    project = [frame for frame in frames if is_project(frame, facts.folders)]
    if project and handover.context.run.session.has_clear_text:
        frame = project[-1]
        line += f", in {frame.function} ({facts.folders.shorten(frame.file)}:{frame.line})"
    return printable(line, _LINE_LENGTH)
