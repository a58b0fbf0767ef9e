"""Ways to crash, and what must be seen of each."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from projects import Project


@dataclass(frozen=True, slots=True)
class Crash:
    """A way to die: the test, and what must be seen of it."""

    test: str
    signal: signal.Signals
    text: str
    """What faulthandler calls it; empty if faulthandler has nothing to say."""
    on_top: str
    """Pattern of functions of which one is among the innermost five."""
    code: int | None = None
    phase: str = "call"


SEGV, ABRT = signal.SIGSEGV, signal.SIGABRT
SEGV_TEXT = "Segmentation fault"
STRLEN = "strlen"
ABORT = "abort|raise|pthread_kill"
CRASHES = {
    "string_at": Crash("def test_x(): ctypes.string_at(8)", SEGV, SEGV_TEXT, STRLEN, code=1),
    "abort": Crash("def test_x(): os.abort()", ABRT, "Aborted", ABORT, code=-6),
    "overflow": Crash("def test_x(): LIBRARY.overflow(0)", SEGV, SEGV_TEXT, "overflow"),
    "thread": Crash(
        """
def test_x():
    thread = threading.Thread(target=ctypes.string_at, args=(8,))
    thread.start()
    threading.Event().wait()
""",
        SEGV,
        SEGV_TEXT,
        STRLEN,
        code=1,
    ),
    "setup": Crash(
        """
@pytest.fixture
def broken(): ctypes.string_at(8)
def test_x(broken): pass
""",
        SEGV,
        SEGV_TEXT,
        STRLEN,
        code=1,
        phase="setup",
    ),
    "teardown": Crash(
        """
@pytest.fixture
def broken():
    yield
    ctypes.string_at(8)
def test_x(broken): pass
""",
        SEGV,
        SEGV_TEXT,
        STRLEN,
        code=1,
        phase="teardown",
    ),
    "sigbus": Crash(
        """
def test_x(tmp_path):
    with open(tmp_path / "file", "w+b") as file:
        file.truncate(4096)
        memory = mmap.mmap(file.fileno(), 4096)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        file.truncate(0)
        ctypes.string_at(address)
""",
        signal.SIGBUS,
        "Bus error",
        STRLEN,
        code=2,
    ),
    "sigill": Crash("def test_x(): LIBRARY.illegal()", signal.SIGILL, "Illegal instruction", "illegal"),
    "sigfpe": Crash("def test_x(): LIBRARY.divide()", signal.SIGFPE, "Floating.point exception", "divide"),
    "fatal": Crash(
        "def test_x(): ctypes.pythonapi.Py_FatalError(b'all is lost')",
        ABRT,
        "",
        "Py_FatalError|fatal_error|" + ABORT,
        code=-6,
    ),
    "assert": Crash("def test_x(): LIBRARY.fail_assertion()", ABRT, "Aborted", ABORT + "|assert", code=-6),
    "two_threads": Crash(
        "def test_x(): LIBRARY.crash_in_two_threads()", SEGV, SEGV_TEXT, "write_nowhere", code=1
    ),
}
HEAD = """\
import ctypes, mmap, os, pytest, threading
LIBRARY = ctypes.CDLL({library!r})
{test}
"""


def write_crash(project: Project, library: Path, name: str) -> None:
    """Write ``test_NAME.py``."""
    text = HEAD.format(library=str(library), test=CRASHES[name].test)
    (project.folder / f"test_{name}.py").write_text(text)
