"""Stacks as lines of text: which frames are worth a line, and what a line looks like."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from pytest_gencore.installed import is_absolute, is_foreign, plain_path
from pytest_gencore.texts import NOWHERE, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_gencore.collector.stacks.model import Frame, PythonThread
    from pytest_gencore.texts import Folders

LOCAL_LENGTH: Final = 100
"""Characters that are shown of a local's ``repr``."""

_NAMES_SHOWN: Final = 6
_NAME_LENGTH: Final = 50
_CANDIDATES: Final = 60
_MACHINERY = re.compile(
    r"(?:^|/)(?:(?:_(?P<pytest>pytest))|(?P<package>pluggy|xdist|execnet|pytest_gencore))/[\w/]+\.py$"
    r"|/(?:site|dist)-packages/(?P<plugin>pytest(?:_\w+)?)(?:/|\.py$)"
    r"|/bin/(?P<program>pytest|py\.test)$|/Scripts/(?P<windows>pytest|py\.test)\.exe/__main__\.py$"
    r"|(?:^<frozen |/)(?P<start>runpy)(?:>|\.py$)"
)
_THREAD_START = ("_bootstrap", "_bootstrap_inner", "run")


def machinery_of(frame: Frame) -> str:
    """Return which part of the test machinery a frame belongs to: ``pytest``, ``xdist``; empty if to none."""
    if frame.native:
        return ""
    if frame.file == "<string>" and frame.function == "<module>":
        return "python -c"  # so execnet starts workers
    file = plain_path(frame.file)
    if frame.function.rpartition(".")[2] in _THREAD_START and file.endswith("/threading.py"):
        return "threading"
    match = _MACHINERY.search(file)
    if match is None:
        return ""
    found = next(text for text in match.groups() if text)
    return "pytest" if found in ("py.test", "runpy") else found.replace("_", "-")


def is_project(frame: Frame, folders: Folders) -> bool:
    """Whether a frame is of the project or its tests: below the root directory, or at least not installed."""
    if frame.native or machinery_of(frame) or is_foreign(frame.file):
        return False
    return not folders.rootdir or not is_absolute(frame.file) or folders.has(frame.file)


def select_frames(
    frames: Sequence[Frame], folders: Folders, lines: int, *, with_native: bool = True
) -> set[int]:
    """Return the indexes of the frames to show in at most so many lines, if one frame fits in them.

    First come the innermost frame of the project, the innermost frame, the innermost native ones and the
    first frame of the test; then the others from the innermost outwards, machinery last. Without
    ``with_native`` native frames are shown only where there are no others.
    """
    chosen: set[int] = set()
    for index in dict.fromkeys(_by_importance(frames, folders, with_native=with_native)):
        candidate = chosen | {index}
        if not chosen or len(render_frames(frames, candidate, folders)) <= lines:
            chosen = candidate
    return chosen


def _by_importance(frames: Sequence[Frame], folders: Folders, *, with_native: bool) -> list[int]:
    python = [index for index, frame in enumerate(frames) if not frame.native]
    own = [index for index in python if not machinery_of(frames[index])]
    known = frozenset(own)
    project = [index for index in own if is_project(frames[index], folders)]
    # the frame that the machinery called last: the test's, not that of a script that started pytest
    calls = pairwise([-1, *python])
    first = [after for before, after in calls if after in known and before not in known][-1:]
    native = list(range(len(frames) - 1, (python or [-1])[-1], -1)) if with_native or not python else []
    return [
        *project[-1:],
        *python[-1:],
        *native[:2],
        *first,
        *own[: -_CANDIDATES - 1 : -1],
        *native[2:_CANDIDATES],
        *(python[:-4:-1] if not own else ()),
    ]


def render_frames(
    frames: Sequence[Frame],
    shown: Collection[int],
    folders: Folders = NOWHERE,
    locals_shown: Mapping[int, int] | None = None,
) -> list[str]:
    """Return the lines of the shown frames, innermost last; a line stands for each run of the others.

    ``locals_shown`` says how many locals are shown of which frame.
    """
    lines: list[str] = []
    start = 0
    for index in [*sorted(shown), len(frames)]:
        if index > start:
            lines.append(_describe_gap(frames[start:index]))
        start = index + 1
        if index < len(frames):
            lines += render_frame(frames[index], folders)
            lines += render_locals(frames[index], (locals_shown or {}).get(index, 0))
    return lines


def render_frame(frame: Frame, folders: Folders = NOWHERE) -> list[str]:
    """Return one or two lines: where it is, and the source."""
    if frame.native:
        place = f"{frame.file}:{frame.line}" if frame.file and frame.line else frame.file
        library = f" ({frame.library})" if frame.library else ""
        return [
            f"    [native] {printable(' '.join(filter(None, (frame.function, place))))}{printable(library)}"
        ]
    number = "?" if frame.line is None else frame.line
    file = printable(folders.shorten(frame.file))
    line = f'  File "{file}", line {number}, in {printable(frame.function)}'
    return [line, f"    {printable(frame.source)}"] if frame.source else [line]


def render_locals(frame: Frame, limit: int, length: int = LOCAL_LENGTH) -> list[str]:
    """Return a line for each of the first ``limit`` locals, and one that counts the others."""
    lines = [f"      {printable(name)} = {printable(value, length)}" for name, value in frame.locals[:limit]]
    left_out = len(frame.locals) - len(lines)
    return [*lines, f"      ... {left_out} more locals"] if lines and left_out else lines


def describe_thread(threads: Sequence[PythonThread], remarks: Sequence[str] = ()) -> str:
    """Return the title of a thread, or of several with the same stack."""
    if len(threads) == 1:
        thread = threads[0]
        title = f"Thread {_name(thread)}"
        if thread.native_id:
            title += f", native id {thread.native_id}"
        elif thread.ident:
            title += f", ident {thread.ident:#x}"
    else:
        names = [_name(thread) for thread in threads[:_NAMES_SHOWN]]
        title = f"{len(threads)} threads: {', '.join(names)}{', ...' if len(threads) > _NAMES_SHOWN else ''}"
    return ", ".join([title, *remarks, "most recent call last:"])


def _name(thread: PythonThread) -> str:
    return printable(thread.name, _NAME_LENGTH) if thread.name else "(no name)"


def _describe_gap(frames: Sequence[Frame]) -> str:
    count = f"  ... {len(frames)} frame{'s' if len(frames) > 1 else ''}"
    names = dict.fromkeys(machinery_of(frame) for frame in frames if not frame.native)
    if not names:
        return f"{count} of compiled code"
    if not all(names):
        return f"{count} left out"
    *first, last = sorted(names)
    return f"{count} of {', '.join(first)} and {last}" if first else f"{count} of {last}"
