"""Nobody is hurried while a debugger or another tracer is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from projects import QUICK

if TYPE_CHECKING:
    from projects import Project


@pytest.mark.slow
def test_no_deadline_in_the_debugger(project: Project) -> None:
    """With ``--pdb``, after ``breakpoint()`` and under a tracer a person may be thinking."""
    project.write(
        test_a="""
        import threading
        def test_slow():
            threading.Event().wait(1)
        """
    )

    ended = project.run(*QUICK, "--gencore-timeout=0.25", "--pdb")

    assert ended.counts() == {"passed": 1}
    assert not project.find_archives()


@pytest.mark.slow
def test_no_deadline_after_breakpoint(project: Project) -> None:
    project.write(
        test_a="""
        import threading
        def test_slow():
            breakpoint()
            threading.Event().wait(1)
        """
    )
    (project.folder / "commands").write_text("continue\n")

    ended = project.run(
        *QUICK, "--gencore-timeout=0.75", "-s", prefix=("sh", "-c", 'exec "$@" <commands', "sh")
    )

    assert ended.counts() == {"passed": 1}
    assert "PDB continue" in ended.out
    assert not project.find_archives()


@needs("gdb")
def test_no_deadline_under_gdb(project: Project) -> None:
    """gdb does not even stop: there is no timer."""
    project.write(
        test_a="""
        import pathlib, threading
        def test_slow():
            threading.Event().wait(1)
        """
    )

    ended = project.run(
        *QUICK, "--gencore-timeout=0.25", prefix=("gdb", "-nx", "-batch", "-ex", "run", "--args")
    )

    assert "1 passed" in ended.out
    assert "exited normally" in ended.out
    assert "received signal" not in ended.out
    assert not project.find_archives()


TRACER = """
import ctypes, os, sys
libc, process = ctypes.CDLL(None, use_errno=True), int(sys.argv[1])
assert libc.ptrace(0x4206, process, None, None) == 0, os.strerror(ctypes.get_errno())  # PTRACE_SEIZE
print("attached", flush=True)
while True:
    _, status = os.waitpid(process, 0x40000000)  # __WALL
    if not os.WIFSTOPPED(status):
        break
    libc.ptrace(7, process, None, os.WSTOPSIG(status))  # PTRACE_CONT
"""


@pytest.mark.slow
@needs("root")
def test_no_deadline_while_somebody_is_attached(project: Project) -> None:
    project.write(
        tracer=TRACER,
        test_a="""
        import os, subprocess, sys, threading
        def test_slow():
            command = [sys.executable, "tracer.py", str(os.getpid())]
            tracer = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert tracer.stdout.readline() == b"attached\\n"
            threading.Event().wait(4)
            tracer.kill()
            tracer.wait()
        """,
    )

    ended = project.run(*QUICK, "--gencore-timeout=3")

    assert ended.counts() == {"passed": 1}
    assert not project.find_archives()
