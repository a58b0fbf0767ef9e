"""A project to crash and hang in, and the C functions that do so."""

from __future__ import annotations

from pathlib import Path

import pytest
from native_builds import compile_once, shared_folder

CRASHERS = Path(__file__).parent / "programs" / "crashers.c"


@pytest.fixture(scope="session")
def crashers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library of ``crashers.c``."""
    output = shared_folder(tmp_path_factory) / "libcrashers.so"
    return compile_once(output, [CRASHERS], ["-shared", "-fPIC", "-Wno-infinite-recursion"])
