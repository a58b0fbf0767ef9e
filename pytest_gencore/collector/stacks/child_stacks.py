"""The Python stacks of children, as they have told them themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.stacks.lines import render_frames, select_frames
from pytest_gencore.collector.stacks.parsers import parse_faulthandler
from pytest_gencore.collector.stacks.sources import add_source_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_gencore.collector.diagnosis.answers import Answer
    from pytest_gencore.collector.stacks.model import Frame, PythonThread
    from pytest_gencore.texts import Folders

_LINES: Final = 8
_NAMED: Final = 6


class ChildStacks:
    """Those of all children that have answered."""

    def __init__(self, answers: Mapping[int, Answer], folders: Folders) -> None:
        self._folders = folders
        self.threads: dict[int, list[PythonThread]] = {}
        """By process."""
        self._groups: dict[tuple[Frame, ...], list[str]] = {}
        for pid, answer in answers.items():
            threads = add_source_lines(parse_faulthandler(answer.stacks), folders.rootdir)
            self.threads[pid] = threads
            for thread in threads:
                if thread.frames:
                    self._groups.setdefault(thread.frames, []).append(_name(pid, thread, len(threads)))

    def short_lines(self) -> list[str]:
        """Return the lines for a log: those with the same stack together."""
        lines = []
        for frames, names in self._groups.items():
            lines += ["", _title(names[:_NAMED], len(names) - _NAMED)]
            lines += render_frames(frames, select_frames(frames, self._folders, _LINES), self._folders)
        return lines

    def full_lines(self) -> list[str]:
        """Return all frames, for ``stacks.txt``."""
        lines = []
        for frames, names in self._groups.items():
            lines += ["", _title(names, 0), *render_frames(frames, range(len(frames)))]
        return lines


def _name(pid: int, thread: PythonThread, count: int) -> str:
    if count == 1 or thread.ident is None:
        return f"child {pid}"
    return f"child {pid} thread {thread.name or f'{thread.ident:#x}'}"


def _title(names: Sequence[str], more: int) -> str:
    rest = f" and {more} more" if more > 0 else ""
    return f"Stack of {', '.join(names)}{rest}, most recent call last:"
