"""Cores without the extension: what makes them on this system, under one interface.

Each system is a module with ``write_core(folder: Path, stop_at: float) -> Path``, which writes a core of this
process below the folder and returns its path, or raises UnavailableError. ``stop_at``: seconds of
``time.monotonic`` by which it must be over. ``systems.SYSTEMS`` has the list.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gencore.errors import UnavailableError
from pytest_gencore.portable.kept import now
from pytest_gencore.systems import find_library, find_system

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.systems import System

_mkdir, _rmdir, _unlink, _join = os.mkdir, os.rmdir, os.unlink, os.path.join
_native_id = _thread.get_native_id
"""Kept: tests patch these modules."""


class Cores:
    """Loaded while the process is as it was."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._problem = ""
        self._write: Callable[[Path, float], Path] | None = None
        try:
            self._write = importlib.import_module(f"pytest_gencore.portable.{system.module}").write_core
        except (ImportError, OSError) as error:
            self._problem = f"what makes cores cannot be loaded: {error}"

    def make(self, folder: str, seconds: float) -> dict[str, Any]:
        """Write a core into a new folder; return where it is, or why it is nowhere, for the helper."""
        thread = None if self._system.has_all_registers else _native_id()
        told = {"method": self._system.method, "path": None, "reason": self._problem, "thread": thread}
        if self._write is None:
            return told
        try:
            _mkdir(folder, 0o700)
            told["path"] = os.fspath(self._write(Path(folder), now() + seconds))
        except UnavailableError as error:
            told["reason"] = str(error)
        except OSError as error:
            told["reason"] = f"the core could not be written: {error}"
        except BaseException:
            discard(folder)
            raise
        return told


def load() -> Cores | None:
    """Return what makes cores on this system, None if nothing does or nothing was built."""
    system = find_system()
    return None if system is None or find_library(system) is None else Cores(system)


def discard(folder: str) -> None:
    """Remove the folder of a core with what is in it; it need not be there."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 - see above
            _unlink(_join(folder, name))
        _rmdir(folder)
