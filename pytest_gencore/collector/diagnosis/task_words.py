"""How a reader knows a task: its name, and the place of the project's code that it is in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pytest_gencore.installed import is_foreign

if TYPE_CHECKING:
    from pytest_gencore.collector.diagnosis.facts import Place, Task

_DEFAULT_TASK: Final = re.compile(r"Task-\d+")


def project_place(task: Task | None) -> Place | None:
    """Return the innermost frame of a task that is of the project; else the innermost."""
    if task is None or not task.frames:
        return None
    own = [frame for frame in task.frames if not (is_foreign(frame.file) or frame.file.startswith("<"))]
    return (own or task.frames)[-1]


def task_name(task: Task) -> str:
    """Return the name that was given, else that of the coroutine: ``Task-1`` says nothing."""
    if task.name and not _DEFAULT_TASK.fullmatch(task.name):
        return task.name.rpartition("<locals>.")[2]
    coroutine = (task.coroutine or "").rpartition("<locals>.")[2]
    return coroutine or task.name or "(no name)"
