"""Parts of a document in words, for the command line and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.archive.diagnosis_file import Node, Wait
    from pytest_gencore.archive.stacks_file import Frame
    from pytest_gencore.document.model import Document, StuckTask, Thread


def short_path(path: str, rootdir: str) -> str:
    """Return a path as it is below pytest's root directory; others as they are."""
    top = f"{rootdir.rstrip('/')}/"
    return path[len(top) :] if rootdir and path.startswith(top) else path


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


def name_node(node: Node, document: Document) -> str:
    """Return the name of a thread or a task of the captured process."""
    if node.kind == "thread":
        found = next((thread for thread in document.threads if thread.ident == node.id), None)
        return name_thread(found) if found else "a thread that is not known"
    task = next((task for task in document.tasks if task.id == node.id), None)
    return name_task(task) if task else "a task that is not known"


def describe_wait(wait: Wait, document: Document) -> str:
    """Return what is waited for, and who has it: ``waits for lock 'a' held by MainThread``."""
    text = f"waits for {wait.text}"
    holders = [name_node(holder, document) for holder in wait.holders]
    if not holders or wait.kind == "task":
        return text
    return f"{text} held by {' and '.join(holders[:3])}" + (
        f" and {len(holders) - 3} more" if len(holders) > 3 else ""
    )


def describe_thread(thread: Thread, document: Document) -> str:
    """Return the line above a thread's stack."""
    remarks = [f"Thread {name_thread(thread)}"]
    if thread.native_id and thread.name:
        remarks.append(f"native id {thread.native_id}")
    if thread.captured:
        remarks.append("captured")
    if thread.holds_gil:
        remarks.append("holding the GIL")
    if thread.wait is not None:
        remarks.append(describe_wait(thread.wait, document))
    elif thread.activity:
        remarks.append(thread.activity)
    return ", ".join(remarks)
