"""Programs with pystack's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from capabilities import find_python_program

from pytest_gencore.sandbox.pystack_command import python_of

if TYPE_CHECKING:
    from pathlib import Path


def fake_pystack(folder: Path, body: str) -> str:
    """Return a program with pystack's name, in the Python that has the real one."""
    pystack = find_python_program("pystack")
    assert pystack is not None
    file = folder / "pystack"
    python = " ".join(python_of(pystack) or ())
    file.write_text(f"#!{python}\nimport os, sys, time\n{body}\n")
    file.chmod(0o700)
    return str(file)
