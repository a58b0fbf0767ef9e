"""Debuggers that somebody may be using on this process: then no deadline may pass."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

DEBUGGER_MODULES = ("bdb", "debugpy", "ipdb", "pdb", "pudb", "pydev")
"""Start of the names of modules whose trace function is a debugger's, unlike that of coverage."""


def is_traced() -> bool:
    """Return whether a debugger for compiled code runs this process."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - plain
            return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in file)
    except OSError:
        return False


def is_debugging_asked_for(config: pytest.Config) -> bool:
    """Return whether options of pytest start a debugger."""
    return bool(config.getoption("usepdb", False) or config.getoption("trace", False))


def is_debugging() -> bool:
    """Return whether a person may be looking at the test in a debugger of Python, however it was started."""
    monitoring = getattr(sys, "monitoring", None)
    if monitoring is not None and monitoring.get_tool(monitoring.DEBUGGER_ID):
        return True
    trace = sys.gettrace()
    module = getattr(trace, "__module__", None) or getattr(type(trace), "__module__", "")
    return trace is not None and str(module).startswith(DEBUGGER_MODULES)
