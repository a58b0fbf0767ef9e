"""The answer: what happened and where every thread was, for the log and for ``stacks.txt``."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.stacks.lines import (
    describe_thread,
    is_project,
    render_frame,
    render_frames,
    render_locals,
    select_frames,
)
from pytest_gencore.collector.stacks.model import find_activity, find_hub, find_threading_call
from pytest_gencore.collector.stacks.trigger_text import describe_trigger
from pytest_gencore.texts import printable
from pytest_gencore.triggers import TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gencore.collector.stacks.model import Frame, PythonThread
    from pytest_gencore.collector.stacks.trigger_text import Facts
    from pytest_gencore.texts import Folders

HINT: Final = "pip install 'pytest-gencore[stacks]' adds native frames and locals to the stacks"
LINES_LIMIT: Final = 60
BRIEF_LINES: Final = 16
"""Of a log that nobody has asked for more with ``-v``: the verdict and 15 more."""
FULL_BYTES_LIMIT: Final = 8 << 20
TEXT_BYTES_LIMIT: Final = 100_000
"""Of the text beside an archive: few enough for whoever reads it whole."""

FULL_LOCAL_LENGTH: Final = 1000
"""Characters that are kept of a local's ``repr`` where all of them are."""
_CULPRIT_LINES: Final = 10
"""Lines of the culprit's stack: with two lines before it, its innermost line is within the first 15."""
_OUTER_LOCALS: Final = 2
_INNER_LOCALS: Final = 5
"""Locals shown of the culprit's innermost frame; ``_OUTER_LOCALS`` of the project's, if it is another."""
_OTHER_LINES: Final = 6
_BRIEF_CULPRIT_LINES: Final = (6, 8)
"""So many where there is much evidence, and little: then the line of the test is among them, too."""
_BRIEF_OTHER_LINES: Final = 3
_LINE_LENGTH: Final = 400
_REPEATS_SHOWN: Final = 3
_CUT_FRAMES: Final = "  ... outer frames not known: faulthandler stops at 100"
_SUSPECT = re.compile(
    r"\.acquire\(|\.join\((?:timeout *=.*|[\d.]*)\)|^(?:async )?with [\w.\[\]]+(?: as \w+)? *[:,]"
)
"""Source of a call that may block. Such threads come early; a reader is not told so, for it is a guess."""


def make_answer(
    facts: Facts,
    threads: Sequence[PythonThread],
    limit: int = LINES_LIMIT,
    *,
    unread: int = 0,
    verdict: Sequence[str] = (),
    evidence: Sequence[str] = (),
    children: Sequence[str] = (),
    is_brief: bool = False,
) -> list[str]:
    """Return at most ``limit`` lines for a log: verdict, trigger, what the process said, evidence, stacks.

    The likely culprit's stack comes first, then the lines of ``children``. ``unread`` threads are missing in
    ``threads``. ``is_brief``: if it has more than ``BRIEF_LINES``, return what of it fits in them.
    """
    head = [*verdict, printable(describe_trigger(facts), _LINE_LENGTH), *facts.said]
    groups = _fold(order_threads(facts, threads))
    lines = [*head, *evidence]
    for number, group in enumerate(groups):
        if number:
            lines.append("")
        lines += _describe_group(facts, group, _OTHER_LINES if number else _CULPRIT_LINES)
        if not number:
            lines += children
    end = ["", _describe_unread(unread)] if unread else []
    if is_brief and len(lines) + len(end) > BRIEF_LINES:
        brief = _shorten(facts, groups, BRIEF_LINES - 1 - len(end[1:]), head, evidence, children)
        more = f"... {len(lines) - len(brief)} more lines in stacks.txt; -v shows them here"
        return [*brief, *end[1:], more]
    limit -= len(end)
    if len(lines) > limit:
        kept = max(1, limit - 1)
        lines = [*lines[:kept], f"... {len(lines) - kept} more lines in stacks.txt"]
    return lines + end


def _shorten(
    facts: Facts,
    groups: Sequence[Sequence[PythonThread]],
    limit: int,
    head: Sequence[str],
    evidence: Sequence[str],
    children: Sequence[str],
) -> list[str]:
    """Return at most ``limit`` lines: the culprit's stack before evidence, other stacks only as a whole."""
    room = limit - len(head)
    culprit: list[str] = []
    if groups:
        few, many = _BRIEF_CULPRIT_LINES
        wanted = min(max(room - 1 - len(evidence) - len(children), few), many, room - 1)
        culprit = _describe_group(facts, groups[0], max(wanted, _BRIEF_OTHER_LINES))
        room -= len(culprit)
    if len(evidence) > room:
        kept = room - 1
        evidence = [*evidence[:kept], f"  ... {len(evidence) - kept} more lines"] if kept > 1 else []
    lines = [*head, *evidence, *culprit][:limit]
    for block in (
        [line for line in children if line],
        *(_describe_group(facts, group, _BRIEF_OTHER_LINES) for group in groups[1:BRIEF_LINES]),
    ):
        if len(lines) + len(block) > limit:
            break
        lines += block
    return lines


def _describe_group(facts: Facts, group: Sequence[PythonThread], lines: int) -> list[str]:
    """Return the title and the stack of threads, which take about so many lines.

    Those of ``_CULPRIT_LINES`` have locals, too.
    """
    return [
        describe_thread(group, _remarks(facts, group[0])),
        *_find_missing(group[0]),
        *_render(group[0], facts.folders, lines),
    ]


def _find_missing(thread: PythonThread) -> list[str]:
    """Say which frames are not there."""
    hub = find_hub(thread)
    return [
        *([f"  ... the hub of {hub} runs: greenlets that wait are not shown"] if hub else []),
        *([_CUT_FRAMES] if thread.is_cut else []),
    ]


def _describe_no_frame(thread: PythonThread) -> str:
    return "  no Python frame" if thread.is_read else "  Python frames not known"


def _describe_unread(count: int) -> str:
    threads = "1 more thread was" if count == 1 else f"{count} more threads were"
    return f"{threads} not read: faulthandler stops at 100"


def format_full(
    facts: Facts,
    threads: Sequence[PythonThread],
    *,
    unread: int = 0,
    byte_limit: int = FULL_BYTES_LIMIT,
    verdict: Sequence[str] = (),
    evidence: Sequence[str] = (),
    children: Sequence[str] = (),
) -> str:
    """Return every frame and local of every thread, for ``stacks.txt``; at most so many bytes of UTF-8."""
    parts: list[str] = []
    size = 0
    head = [*verdict, printable(describe_trigger(facts), _LINE_LENGTH), *facts.said, *evidence]
    for line in (*head, *_full_lines(facts, threads, unread), *children):
        size += len(line.encode(errors="replace")) + 1
        if size > byte_limit - 100:
            parts.append(f"... cut at {byte_limit} bytes")
            break
        parts.append(line)
    return "\n".join(parts) + "\n"


def order_threads(facts: Facts, threads: Sequence[PythonThread]) -> list[PythonThread]:
    """Sort threads, the most likely culprit first; else they keep their order.

    Threads come in this order: the one that crashed or ran the test, the one that holds the GIL, those that
    another thread may block, those that run, those that wait for an event, those with nothing of the project.
    """
    culprit = _find_culprit(facts, threads)
    return sorted(threads, key=lambda thread: 0 if thread is culprit else _rank(facts, thread))


def _rank(facts: Facts, thread: PythonThread) -> int:
    """Return 1 for a thread that is a likely part of the trouble, up to 5 for one that is not."""
    call = find_threading_call(thread)
    is_idle = thread.activity is None and call is not None and call.rpartition(".")[2] == "wait"
    if thread.holds_gil:
        return 1
    if not is_idle and (find_activity(thread) or _looks_blocked(thread)):
        return 2
    if not any(is_project(frame, facts.folders) for frame in thread.frames):
        return 5
    return 4 if is_idle else 3


def _looks_blocked(thread: PythonThread) -> bool:
    innermost = next((frame for frame in reversed(thread.frames) if not frame.native), None)
    return innermost is not None and bool(_SUSPECT.search(innermost.source))


def _find_culprit(facts: Facts, threads: Sequence[PythonThread]) -> PythonThread | None:
    if facts.native_id is not None:
        named = next((thread for thread in threads if thread.native_id == facts.native_id), None)
        if named is not None:
            return named
    current = next((thread for thread in threads if thread.is_current), None)
    return current or next((thread for thread in threads if thread.name == "MainThread"), None)


def describe_subject(facts: Facts) -> str:
    """Return what the thread did that the capture is about."""
    kind = TRIGGERS[facts.trigger]
    return kind.did if kind.is_fatal or facts.nodeid or not facts.place else "ran pytest"


def _remarks(facts: Facts, thread: PythonThread) -> list[str]:
    remarks = []
    is_named = facts.native_id is not None and thread.native_id == facts.native_id
    made_the_capture = facts.native_id is None and thread.is_current  # its own Python code did: so it ran
    if is_named or made_the_capture:
        remarks.append("raised it" if facts.is_raising else describe_subject(facts))
    if thread.holds_gil:
        remarks.append("holding the GIL")
    activity = None if made_the_capture else find_activity(thread)
    if activity:
        remarks.append(printable(activity))
    return remarks


def _fold(threads: Sequence[PythonThread]) -> list[list[PythonThread]]:
    """Join threads with the same stack, whatever their locals; the first is never joined with others."""
    groups: dict[object, list[PythonThread]] = {}
    for number, thread in enumerate(threads):
        stack = tuple(frame._replace(locals=()) for frame in thread.frames)
        key = (number == 0, thread.holds_gil or False, find_activity(thread), stack)
        groups.setdefault(key, []).append(thread)
    return list(groups.values())


def _render(thread: PythonThread, folders: Folders, lines: int) -> list[str]:
    if not thread.frames:
        return [_describe_no_frame(thread)]
    if lines == _CULPRIT_LINES:
        return _render_culprit(thread.frames, folders)
    chosen = select_frames(thread.frames, folders, lines, with_native=find_activity(thread) is None)
    return render_frames(thread.frames, chosen, folders)


def _render_culprit(frames: Sequence[Frame], folders: Folders) -> list[str]:
    """Show locals of the project's innermost frame and of the innermost Python frame."""
    chosen = select_frames(frames, folders, _CULPRIT_LINES)
    python = [index for index in sorted(chosen) if not frames[index].native]
    project = [index for index in python if is_project(frames[index], folders)]
    locals_shown = {**dict.fromkeys(project[-1:], _OUTER_LOCALS), **dict.fromkeys(python[-1:], _INNER_LOCALS)}
    return render_frames(frames, chosen, folders, locals_shown)


def _full_lines(facts: Facts, threads: Sequence[PythonThread], unread: int) -> Iterator[str]:
    moment = "while it went on" if facts.is_living else "when its snapshot was taken"
    yield f"Python threads of process {facts.pid} {moment}"
    if unread:
        yield _describe_unread(unread)
    for thread in order_threads(facts, threads):
        yield ""
        yield describe_thread([thread], _remarks(facts, thread))
        yield from _find_missing(thread)
        if not thread.frames:
            yield _describe_no_frame(thread)
        for _, group in groupby(thread.frames, key=lambda frame: (frame.file, frame.line, frame.function)):
            repeated = 0
            for number, frame in enumerate(group):
                if number < _REPEATS_SHOWN:
                    yield from render_frame(frame)
                    yield from render_locals(frame, len(frame.locals), FULL_LOCAL_LENGTH)
                else:
                    repeated += 1
            if repeated:
                yield f"  ... the same frame {repeated} more times"


def cut_text(text: str, limit: int) -> str:
    """Return at most so many bytes of a text, and a line that says so."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= limit:
        return text
    return f"{encoded[:limit].decode(errors='ignore')}\n... cut at {limit} bytes\n"
