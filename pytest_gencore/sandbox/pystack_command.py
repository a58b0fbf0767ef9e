"""How pystack is started: with an ``open`` that knows which source files are meant."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_gencore.sandbox import sources

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES_SCRIPT: Final = os.path.abspath(sources.__file__)  # noqa: PTH100 - a str for a command
_BEGINNING: Final = 4096
_ENV: Final = re.compile(r"#! *\S*/env (?:-S )?(python[\d.]*t?)((?: -\S+)*)$")
_PYTHON: Final = re.compile(r"#! *(\S*/python[\d.]*t?)((?: -\S+)*)$")
_SHELL: Final = re.compile(r"""'''exec' (["']?)(/.*/python[\d.]*t?)\1((?: -\S+)*) "\$0" "\$@"$""")
"""What installers write where the path of Python is long or has a blank, behind ``#!/bin/sh``."""
_BESIDE: Final = re.compile(
    r"""'''exec' "\$\(dirname -- "\$\(realpath -- "\$0"\)"\)"/(["']?)(python[\d.]*t?)\1 "\$0" "\$@"$"""
)
"""What they write if the environment may be moved."""


def python_of(script: str) -> list[str] | None:
    """Return the Python that runs a script, with options, as its first lines say; None if it is no script.

    Raises OSError, ValueError.
    """
    with Path(script).open("rb") as file:
        first, second, *_ = [*file.read(_BEGINNING).decode(errors="replace").splitlines(), "", ""]
    if found := _SHELL.match(second):
        return [found[2], *found[3].split()]
    if found := _BESIDE.match(second):
        return [str(Path(script).resolve().parent / found[2])]
    if found := _PYTHON.match(first):
        return [found[1], *found[2].split()]
    if (found := _ENV.match(first)) and (path := shutil.which(found[1])):
        return [path, *found[2].split()]
    return None


def pystack_command(script: str, folder: str, arguments: Sequence[str]) -> list[str] | None:
    """Return the command of pystack with source files below ``folder``, ``/`` for those of this machine.

    None if it is no script of Python: then nothing can be said of what it opens. Raises OSError, ValueError.
    """
    python = python_of(script)
    return None if python is None else [*python, SOURCES_SCRIPT, folder, script, *arguments]
