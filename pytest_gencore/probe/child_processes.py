"""Child processes that are waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.reading import field

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Wait = dict[str, Any]
    Note = Callable[[object], int]


def read_child(frame: FrameType, me: Any, note: Note) -> Wait | None:
    """Return the wait of a method of ``subprocess.Popen``, or of multiprocessing's like it."""
    pid = field(me, "pid")
    if type(pid) is not int:
        return None
    pipes = [name for name in ("stdin", "stdout", "stderr") if field(me, name) is not None]
    return {"kind": "child", "pid": pid, "how": frame.f_code.co_name, "pipes": pipes}
