"""Results of pools of processes: which children may have the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.reading import field

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def read_pool(frame: FrameType, me: Any, note: Callable[[object], int]) -> dict[str, Any] | None:
    """Return the wait for a result of ``multiprocessing.Pool``."""
    processes = field(field(me, "_pool"), "_pool")
    if type(processes) is not list:
        return None
    pids = [field(field(process, "_popen"), "pid") for process in processes[:100]]
    return {"kind": "pool", "id": note(me), "pids": [pid for pid in pids if type(pid) is int]}
