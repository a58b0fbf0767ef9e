"""What two captures have in common: texts and stacks without what differs from run to run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.document.words import short_path

if TYPE_CHECKING:
    from pytest_gencore.archive.diagnosis_file import Place
    from pytest_gencore.archive.stacks_file import Frame
    from pytest_gencore.document.model import Document

_NUMBER = re.compile(r"(\.[a-z]\w*:\d+)|0x[0-9a-f]+|\d+(?:\.\d+)*")
"""A line of a file, which is kept, or another number."""


class Diagnosis(NamedTuple):
    """Of what captures that are equal are told together."""

    trigger: tuple[str, str | None, str | None]
    """Its kind, signal and exception."""
    verdict: str
    stack: tuple[str, ...]
    """Of the likely culprit: the calls of the project, or all of Python where there are none of those."""


def without_numbers(text: str) -> str:
    """Return a text with N for process ids, addresses, times and counts; lines of files stay."""
    return _NUMBER.sub(lambda match: match[1] or "N", text)


def find_diagnosis(document: Document) -> Diagnosis | None:
    """Return what the capture has in common with those of the same trouble; None if no stack is known."""
    frames = document.failure_frames or (document.threads[0].frames if document.threads else ()) or ()
    python = [frame for frame in frames if not frame.native]
    chosen = [frame for frame in python if frame.project] or python
    if not chosen:
        return None
    trigger, verdict = document.trigger, document.verdict
    return Diagnosis(
        trigger=(trigger.kind, trigger.signal, trigger.exception),
        verdict=without_numbers(verdict.text) if verdict else "",
        stack=tuple(describe_call(frame, document.test.rootdir) for frame in chosen),
    )


def describe_call(frame: Frame | Place, rootdir: str) -> str:
    """Return a call without its source and locals: ``test_a.py:3 in test_a``."""
    line = f":{frame.line}" if frame.line else ""
    return f"{short_path(frame.file, rootdir)}{line} in {frame.function}"
