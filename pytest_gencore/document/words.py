"""Parts of a document in words, for the command line and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gencore.installed import is_foreign
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_gencore.archive.diagnosis_file import Node, Wait
    from pytest_gencore.archive.manifest import TriggerFacts
    from pytest_gencore.archive.stacks_file import Frame
    from pytest_gencore.document.model import StuckTask, Thread


def describe_trigger(trigger: TriggerFacts) -> str:
    """Return what led to a capture: ``crash: SIGSEGV (SEGV_MAPERR) at address 0x8``."""
    if trigger.signal is not None:
        code = f" ({trigger.code_name or f'si_code {trigger.code}'})" if trigger.code is not None else ""
        address = f" at address {trigger.address}" if trigger.address is not None else ""
        return f"{trigger.kind}: {trigger.signal}{code}{address}"
    if trigger.deadline_s is not None:
        source = f", set by {trigger.deadline_source}" if trigger.deadline_source else ""
        return f"{trigger.kind}: after {format_duration(trigger.deadline_s)}{source}"
    return f"{trigger.kind}: {trigger.exception}" if trigger.exception else trigger.kind


def short_path(path: str, rootdir: str) -> str:
    """Return a path as it is below pytest's root directory; others as they are."""
    top = f"{rootdir.rstrip('/')}/"
    return path[len(top) :] if rootdir and path.startswith(top) else path


def is_project_file(file: str, rootdir: str) -> bool:
    """Tell whether code is the project's, by the path of its file."""
    return file.startswith(f"{rootdir.rstrip('/')}/") and not is_foreign(file)


def describe_frame(frame: Frame, rootdir: str) -> str:
    """Return where a call is, in one line."""
    if frame.native:
        where = f" {frame.file}:{frame.line}" if frame.file and frame.line else ""
        return f"[native] {frame.function}{where}" + (f" ({frame.library})" if frame.library else "")
    line = f", line {frame.line}" if frame.line else ""
    return f'File "{short_path(frame.file, rootdir)}"{line}, in {frame.function}'


def short_frames(frames: Sequence[Frame], count: int) -> list[Frame]:
    """Return the most telling frames, outermost first: the project's innermost ones, else the innermost."""
    own = [frame for frame in frames if frame.project]
    python = [frame for frame in frames if not frame.native]
    return (own or python or list(frames))[-count:]


def name_thread(thread: Thread) -> str:
    """Return a thread's name, or what else tells it from others."""
    return thread.name or (f"thread {thread.native_id}" if thread.native_id else "a thread")


def name_task(task: StuckTask) -> str:
    """Return a task's name and its coroutine."""
    name = task.name or task.coroutine or f"task {task.id:#x}"
    return f"{name} ({task.coroutine})" if task.coroutine and task.coroutine != name else name


class Names:
    """The names of the threads and tasks of one process."""

    def __init__(self, threads: Iterable[Thread], tasks: Iterable[StuckTask]) -> None:
        self._names = {("thread", thread.ident): name_thread(thread) for thread in threads}
        self._names |= {("task", task.id): name_task(task) for task in tasks}

    def of(self, node: Node) -> str:
        """Return the name of a thread or a task."""
        return self._names.get((node.kind, node.id)) or f"a {node.kind} that is not known"

    def describe_wait(self, wait: Wait) -> str:
        """Return what is waited for, and who has it: ``waits for lock 'a' held by MainThread``."""
        text = f"waits for {wait.text}"
        if not wait.holders or wait.kind in ("task", "thread"):
            return text  # which says who that is
        more = f" and {len(wait.holders) - 3} more" if len(wait.holders) > 3 else ""
        return f"{text} held by {' and '.join(map(self.of, wait.holders[:3]))}{more}"


def describe_thread(thread: Thread, names: Names) -> str:
    """Return the line above a thread's stack."""
    remarks = [f"Thread {name_thread(thread)}"]
    if thread.native_id and thread.name:
        remarks.append(f"native id {thread.native_id}")
    if thread.captured:
        remarks.append("captured")
    if thread.holds_gil:
        remarks.append("holding the GIL")
    if thread.wait is not None:
        remarks.append(names.describe_wait(thread.wait))
    elif thread.activity:
        remarks.append(thread.activity)
    return ", ".join(remarks)
