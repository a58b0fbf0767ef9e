"""A project to crash and hang in, and the C functions that do so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from native_builds import compile_once, shared_folder
from projects import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

CRASHERS = Path(__file__).parent / "programs" / "crashers.c"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Return an empty project; nothing of its runs may be left."""
    project = Project(tmp_path)
    yield project
    project.close()


@pytest.fixture(scope="session")
def crashers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library of ``crashers.c``."""
    output = shared_folder(tmp_path_factory) / "libcrashers.so"
    return compile_once(output, [CRASHERS], ["-shared", "-fPIC", "-Wno-infinite-recursion"])
