"""What a failed phase of a test says: its text, where it was raised, the type of the exception."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

import pluggy
import pytest

from pytest_gencore.plugin import attach

if TYPE_CHECKING:
    from collections.abc import Iterator

PASS_ON = (KeyboardInterrupt, pytest.exit.Exception)
"""What ends the run, wherever it is raised."""

# Frames of the machinery below and above a test say nothing about its failure.
MACHINERY = tuple(
    os.path.join(os.path.dirname(inspect.getfile(thing)), "")  # noqa: PTH118, PTH120 - compared with co_filename
    for thing in (pytest.Item, pluggy, attach)
)


def make_failure_text(call: pytest.CallInfo[Any], report: pytest.TestReport) -> str:
    """Return the failure as pytest prints it, with locals of the test's own frames."""
    try:
        assert call.excinfo is not None
        return str(call.excinfo.getrepr(showlocals=True, style="long", tbfilter=drop_machinery))
    except PASS_ON:
        raise
    except BaseException:  # noqa: BLE001 - objects of the test are asked for their repr
        return str(report.longrepr)


def describe_type(call: pytest.CallInfo[Any]) -> str | None:
    """Return the type of the failure as tracebacks name it, None without one."""
    return None if call.excinfo is None else name_type(call.excinfo.type)


def name_type(kind: type[BaseException]) -> str:
    """Return the name of an exception's type as tracebacks have it."""
    module, name = kind.__module__, kind.__qualname__
    return name if module in {"builtins", "__main__"} else f"{module}.{name}"


def find_frames(call: pytest.CallInfo[Any]) -> tuple[tuple[str, int, str], ...]:
    """Return file, line and function of every frame of the failure, the innermost last."""
    return tuple(_iter_frames(call))


def _iter_frames(call: pytest.CallInfo[Any]) -> Iterator[tuple[str, int, str]]:
    entry = call.excinfo.tb if call.excinfo else None
    while entry is not None:
        code = entry.tb_frame.f_code
        yield code.co_filename, entry.tb_lineno, getattr(code, "co_qualname", code.co_name)
        entry = entry.tb_next


def drop_machinery(excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    """Return the traceback without frames of pytest, pluggy and this plugin."""
    own = excinfo.traceback.filter(lambda entry: not entry.frame.code.raw.co_filename.startswith(MACHINERY))
    return own or excinfo.traceback
