"""An installed copy of the package in which nothing is compiled, as on macOS and Windows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from native_builds import compile_c

import pytest_gencore

SUPPORT = Path(__file__).parent


def copy_package(folder: Path) -> dict[str, str]:
    """Copy it into a folder; return the environment in which Python finds the copy."""
    ignored = shutil.ignore_patterns("*.so", "csrc", "__pycache__")
    shutil.copytree(Path(pytest_gencore.__file__).parent, folder / "pytest_gencore", ignore=ignored)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{SUPPORT}"}


def add_library(folder: Path) -> dict[str, str]:
    """Build what makes cores on macOS for this system, into such a copy; return the environment.

    The plugin ``darwin_cores`` has it used.
    """
    package = folder / "pytest_gencore/portable"
    source = Path(pytest_gencore.__file__).parent / "portable/csrc/macos.c"
    compile_c(package / "_macos.so", [source], ("-shared", "-fPIC"))
    return {"PYTHONPATH": f"{folder}{os.pathsep}{SUPPORT}"}
