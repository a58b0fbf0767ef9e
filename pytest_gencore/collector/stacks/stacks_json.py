"""``stacks.json``: what ``stacks.txt`` tells people, for programs."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as _quote
from typing import TYPE_CHECKING, Final

from pytest_gencore.archive.stacks_file import (
    STACKS_LIMIT,
    ChildStacks,
    Frame,
    Local,
    StacksFile,
    ThreadStack,
)
from pytest_gencore.collector.stacks.lines import is_project
from pytest_gencore.collector.stacks.model import find_activity
from pytest_gencore.collector.stacks.report import FULL_LOCAL_LENGTH
from pytest_gencore.collector.stacks.sources import absolute_path
from pytest_gencore.installed import plain_path
from pytest_gencore.texts import Folders

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_gencore.collector.stacks import model

_TEXT_LENGTH: Final = 1000
_FILE_LENGTH: Final = 4096
_FRAME_BYTES: Final = 130
_LOCAL_BYTES: Final = 20
"""What a frame and a local take beside their texts."""
_THREAD_BYTES: Final = 400
"""About what is told of a thread beside its frames."""


def make_stacks_file(
    rootdir: str,
    threads: Iterable[model.PythonThread],
    failure: Sequence[model.Frame],
    children: Mapping[int, Sequence[model.PythonThread]],
    *,
    unread: int,
    limit: int = STACKS_LIMIT,
) -> StacksFile:
    """Return what the file holds, in at most about so many bytes; threads: the likely culprit first."""
    room = _Room(rootdir, limit)
    failed, _ = room.frames(failure)
    own = room.threads(threads)
    others = [ChildStacks(pid=pid, threads=room.threads(found)) for pid, found in children.items()]
    return StacksFile(
        rootdir=plain_path(rootdir),
        threads=own,
        unread=unread,
        failure=failed,
        children=tuple(others),
        complete=not room.is_full,
    )


class _Room:
    """The bytes that are left."""

    def __init__(self, rootdir: str, limit: int) -> None:
        self._folders = Folders(rootdir)
        self._left = limit
        self.is_full = False

    def threads(self, threads: Iterable[model.PythonThread]) -> tuple[ThreadStack, ...]:
        found = []
        for thread in threads:
            if self._left < _THREAD_BYTES:
                self.is_full = True
                break
            self._left -= _THREAD_BYTES
            frames, is_cut = self.frames(thread.frames)
            stack = ThreadStack(
                native_id=thread.native_id,
                ident=thread.ident,
                name=None if thread.name is None else thread.name[:_TEXT_LENGTH],
                captured=thread.is_current,
                holds_gil=thread.holds_gil,
                activity=find_activity(thread),
                frames=frames if thread.is_read else None,
                cut=is_cut or thread.is_cut,
            )
            found.append(stack)
        return tuple(found)

    def frames(self, frames: Sequence[model.Frame]) -> tuple[tuple[Frame, ...], bool]:
        """Return the innermost ones, outermost first, while there is room, and whether some are missing."""
        found: list[Frame] = []
        for frame in reversed(frames):
            told = self._frame(frame)
            self._left -= _size_of(told)
            if self._left < 0:
                self.is_full = True
                return tuple(reversed(found)), True
            found.append(told)
        return tuple(reversed(found)), False

    def _frame(self, frame: model.Frame) -> Frame:
        path = None if frame.native else absolute_path(frame.file, self._folders.rootdir)
        return Frame(
            file=(path or frame.file)[:_FILE_LENGTH],
            line=frame.line if frame.line is not None and frame.line > 0 else None,
            function=frame.function[:_TEXT_LENGTH],
            native=frame.native,
            library=frame.library or None,
            project=is_project(frame, self._folders),
            source=frame.source[:_TEXT_LENGTH] or None,
            locals=tuple(Local(name=name, value=_cut(value)) for name, value in frame.locals),
        )


def _size_of(frame: Frame) -> int:
    """Return the bytes of a frame in JSON, or some more."""
    texts = [frame.file, frame.function, frame.library or "", frame.source or ""]
    texts += [text for local in frame.locals for text in (local.name, local.value)]
    return _FRAME_BYTES + _LOCAL_BYTES * len(frame.locals) + sum(len(_quote(text)) for text in texts)


def _cut(value: str) -> str:
    return value if len(value) <= FULL_LOCAL_LENGTH else f"{value[: FULL_LOCAL_LENGTH - 3]}..."
