"""Debuggers that somebody may be using on this process: then no deadline may pass."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

DEBUGGER_MODULES = ("bdb", "debugpy", "ipdb", "pdb", "pudb", "pydev")
"""Start of the names of modules whose trace function is a debugger's, unlike that of coverage."""

_monitoring: Any = getattr(sys, "monitoring", None)
"""Since CPython 3.12."""


def is_traced() -> bool:
    """Return whether a debugger for compiled code runs this process."""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - plain
            return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in file)
    except OSError:
        return False


def is_debugging_asked_for(config: pytest.Config) -> bool:
    """Return whether options of pytest start a debugger."""
    return bool(config.getoption("usepdb", False) or config.getoption("trace", False))


def is_debugging() -> bool:
    """Return whether a person may be looking at the test in a debugger of Python, however it was started."""
    if _monitoring is not None and _monitoring.get_tool(_monitoring.DEBUGGER_ID):
        return True
    trace = sys.gettrace()
    if trace is None:
        return False
    module = getattr(trace, "__module__", None) or getattr(type(trace), "__module__", "")
    return str(module).startswith(DEBUGGER_MODULES)


class Entered:
    """A plugin that says when pytest starts a debugger."""

    def __init__(self, say: Callable[[], None]) -> None:
        self.pytest_enter_pdb = say
