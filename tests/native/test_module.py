"""The extension's own checks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_gencore.capture import _native
from pytest_gencore.protocol import Stage

SOURCES = Path(_native.__file__).with_name("csrc")
FORMATS_WITH_LENGTHS = re.compile(r'"[^"\n]*[yszu]#[^"\n]*"')
MESSAGES = [b""] * len(Stage)


@pytest.mark.parametrize("name", ["argv", "envp", "directory", "run_name", "messages"])
def test_a_zero_in_a_text_is_refused(name: str) -> None:
    """It would end the text."""
    arguments = [[b"x"], [b"A=B"], b"/x", b".r", MESSAGES]
    position = ("argv", "envp", "directory", "run_name", "messages").index(name)
    value = arguments[position]
    arguments[position] = [b"a\0b", *value[1:]] if isinstance(value, list) else b"a\0b"
    prepare: Any = _native.prepare
    with pytest.raises(ValueError, match="embedded null byte"):
        prepare(*arguments, -1, -1)


@pytest.mark.parametrize("phase", [-1, 4])
def test_there_are_four_phases(phase: int) -> None:
    with pytest.raises(ValueError, match="no such phase"):
        _native.set_test_phase(phase, 1)


@pytest.mark.parametrize("which", [-1, 4])
def test_there_are_four_deadlines(which: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        _native.cancel_deadline(which)


IN_ANOTHER_INTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
from pytest_gencore.capture import _native
inner = '''
try:
    from pytest_gencore.capture import _native
except ImportError as error:
    print(error)
'''
number = interpreters.create()
interpreters.run_string(number, inner)
interpreters.destroy(number)
"""


def test_only_the_main_interpreter_captures() -> None:
    """Handlers, timers and the engine are those of the process."""
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_INTERPRETER], capture_output=True, text=True, timeout=60, check=True
    )
    assert "captures work in the main interpreter only" in done.stdout


def test_no_format_depends_on_the_python_that_compiled() -> None:
    """Up to 3.12 ``#`` needs a macro whose work 3.13's headers do not do: SystemError when it is called."""
    assert FORMATS_WITH_LENGTHS.search('PyArg_ParseTuple(args, "Oy#:x", &a, &b, &c)')
    files = sorted(SOURCES.glob("*.[ch]"))
    assert files
    assert [path.name for path in files if FORMATS_WITH_LENGTHS.search(path.read_text())] == []
