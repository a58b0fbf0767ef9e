"""Python threads as an archive shows them, whoever has read them: the engine, faulthandler or pystack."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_gencore.request.context import ThreadStack

_THREADING_FILE = re.compile(r"/lib(?:64)?/python3\.\d+t?/threading\.py$")
_THREADING_CALLS = frozenset(
    ("__enter__", "_acquire_restore", "_wait_for_tstate_lock", "acquire", "join", "wait")
)
"""Functions of the module threading in which a thread blocks."""
_KERNEL_WAIT = re.compile(r"futex|sem_\w*wait|pthread_cond_\w*wait|lll_\w*lock_wait")
"""Functions of the C library that do nothing but wait."""
_NATIVE_WAITS = {
    "the GIL": re.compile(r"take_gil\b"),
    "the end of a thread": re.compile(r"ThreadHandle_join\b"),
    "an item of a queue": re.compile(r"_queue_SimpleQueue_get"),
    "a lock": re.compile(
        r"lock_PyThread_acquire_lock|rlock_acquire|_multiprocessing_SemLock_acquire|_?PyMutex_Lock"
    ),
    "a lock of compiled code": re.compile(r"_*pthread_(?:mutex_\w*lock|rwlock_\w+lock)"),
}
"""What a thread waits for in a C function."""
_HUBS = re.compile(r"/(gevent|eventlet)/(?:hub|hubs/\w+)\.py$")
"""Files of what runs while all greenlets of a thread wait."""
_COLLECTION = re.compile(r"gc_collect_\w+|_?PyGC_Collect\w*")


class Frame(NamedTuple):
    """One call."""

    file: str
    """As the code object or the debug information has it; may not exist."""
    line: int | None
    """1 for the first; None if not known."""
    function: str
    """Qualified where that is known."""
    locals: tuple[tuple[str, str], ...] = ()
    """Name and ``repr``, arguments first; only pystack knows them."""
    source: str = ""
    """The line of source, stripped; empty if it cannot be had."""
    native: bool = False
    """Whether it is a call of compiled code."""
    library: str = ""
    """Name of the executable or library that a native frame belongs to."""


class PythonThread(NamedTuple):
    """One thread and its stack."""

    name: str | None
    """The one that ``threading`` knows, else the kernel's; None if neither is known."""
    native_id: int | None
    """The kernel's thread id."""
    ident: int | None
    """``threading.get_ident()``: the value of pthread_self(3)."""
    frames: tuple[Frame, ...]
    """Innermost last."""
    holds_gil: bool | None = None
    """None if not known."""
    is_current: bool = False
    """Whether it made the capture, or crashed."""
    activity: str | None = None
    """What whoever read it knows of its doings: ``waiting for the GIL``; see also ``find_activity``."""
    is_read: bool = True
    """Whether its frames are known; without any it then has none."""
    is_cut: bool = False
    """Whether there may be outer frames that are not known: faulthandler walks 100."""


def threads_of(stacks: Sequence[ThreadStack]) -> list[PythonThread]:
    """Return the threads that the captured process itself saw, the capturing one first."""
    return [
        PythonThread(
            name=stack.name,
            native_id=stack.native_id,
            ident=stack.ident,
            frames=tuple(Frame(*frame) for frame in reversed(stack.frames)),
            is_current=number == 0,
        )
        for number, stack in enumerate(stacks)
    ]


def find_missed(
    threads: Sequence[PythonThread], stacks: Mapping[int, Sequence[tuple[str, int | None, str]]]
) -> list[PythonThread]:
    """Return those of ``stacks``, by native id and innermost frame first, that are not among the threads.

    faulthandler shows the threads of one interpreter.
    """
    seen = {thread.native_id for thread in threads}
    return [
        PythonThread(None, tid, None, tuple(Frame(*place) for place in reversed(places)))
        for tid, places in stacks.items()
        if tid not in seen
    ]


def merge_threads(known: Sequence[PythonThread], richer: Sequence[PythonThread]) -> list[PythonThread]:
    """Complete threads with what pystack has read: locals, native frames, the GIL.

    Threads are matched by native id and keep order, name and place of ``known``; threads that only pystack
    has seen follow. A thread without a native id is taken for one with the same Python calls that is left
    over. Frames of the capture itself, which ``known`` leaves out, stay left out.
    """
    known_ids = {thread.native_id for thread in known}
    by_id = {thread.native_id: thread for thread in richer if thread.native_id}
    others = [thread for native_id, thread in by_id.items() if native_id not in known_ids]
    merged = []
    for thread in known:
        other = by_id.get(thread.native_id) if thread.native_id else _take_same(thread, others)
        merged.append(thread if other is None else _merge(thread, other))
    return merged + others


def _take_same(thread: PythonThread, others: list[PythonThread]) -> PythonThread | None:
    """Remove a thread with the same Python calls from ``others`` and return it; None if there is none."""
    calls = _python_calls(thread)
    found = next((other for other in others if calls and _python_calls(other) == calls), None)
    if found is not None:
        others.remove(found)
    return found


def _python_calls(thread: PythonThread) -> list[tuple[str, int | None]]:
    return [(frame.file, frame.line) for frame in thread.frames if not frame.native]


def _merge(thread: PythonThread, other: PythonThread) -> PythonThread:
    frames = _merge_frames(thread.frames, other.frames, may_end_in_us=thread.is_current)
    return thread._replace(
        name=thread.name or other.name,
        native_id=other.native_id,
        ident=thread.ident if thread.native_id else None,  # threads with the same calls may be mixed up
        frames=frames,
        is_cut=thread.is_cut and frames is thread.frames,
        holds_gil=other.holds_gil,
        activity=other.activity,
    )


def _merge_frames(
    known: tuple[Frame, ...], richer: tuple[Frame, ...], *, may_end_in_us: bool
) -> tuple[Frame, ...]:
    """Return the richer frames, of the thread that captured only up to the innermost known one.

    Of a thread that runs code of another interpreter pystack has the frames of both.

    faulthandler leaves out the outermost ones of a deep stack; then the known ones are the end of the others.
    """
    python = [index for index, frame in enumerate(richer) if not frame.native]
    if len(python) < len(known) or not known:
        return known or richer
    files = [richer[index].file for index in python]
    wanted = [frame.file for frame in known]
    if files[: len(known)] == wanted:
        is_whole = len(python) == len(known) or not may_end_in_us
        return richer if is_whole else richer[: python[len(known) - 1] + 1]
    return richer if files[-len(known) :] == wanted else known  # else not the same moment or thread


def find_activity(thread: PythonThread) -> str | None:
    """Return what a thread is known to do at the end of its stack, as a remark; None if that is not known.

    The source is no evidence: on a line with ``with lock:`` a thread may wait, or have gone on.
    """
    call = find_threading_call(thread)
    if thread.activity is not None or call is None:
        return thread.activity or _find_native_activity(thread.frames)
    return f"in threading's {call}()"


def find_threading_call(thread: PythonThread) -> str | None:
    """Return the function of the module threading in which a thread blocks: ``Condition.wait``."""
    innermost = next((frame for frame in reversed(thread.frames) if not frame.native), None)
    if innermost is None or not _THREADING_FILE.search(innermost.file):
        return None
    return innermost.function if innermost.function.rpartition(".")[2] in _THREADING_CALLS else None


def find_hub(thread: PythonThread) -> str | None:
    """Return whose hub a thread runs, ``gevent`` or ``eventlet``: its greenlets are in none of its frames."""
    outermost = next((frame for frame in thread.frames if not frame.native), None)
    found = None if outermost is None else _HUBS.search(outermost.file)
    return found[1] if found else None


def _find_native_activity(frames: Sequence[Frame]) -> str | None:
    native = list(takewhile(lambda frame: frame.native, reversed(frames)))
    if native and _KERNEL_WAIT.search(native[0].function):
        what = next(filter(None, map(_find_native_wait, native)), None)
        return f"waiting for {what}" if what else None
    is_collecting = any("python" in frame.library and _COLLECTION.match(frame.function) for frame in native)
    return "collecting garbage" if is_collecting else None


def _find_native_wait(frame: Frame) -> str | None:
    return next((what for what, names in _NATIVE_WAITS.items() if names.match(frame.function)), None)
