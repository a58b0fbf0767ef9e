"""Built once a session: the engine without Python, and helpers in C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from native_builds import (
    NATIVE,
    PROGRAMS,
    SANITIZERS,
    SIGNAL_SAFE_SOURCES,
    compile_once,
    kernel_headers,
    shared_folder,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DRIVER = [*sorted(NATIVE.glob("driver*.c")), *SIGNAL_SAFE_SOURCES]


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def fake_collector(builds: Path) -> Path:
    return compile_once(builds / "fake_collector", [PROGRAMS / "fake_collector.c"])


@pytest.fixture(scope="session")
def driver(builds: Path) -> Path:
    return compile_once(builds / "driver", DRIVER)


@pytest.fixture(scope="session")
def sanitized_driver(builds: Path) -> Path:
    return compile_once(builds / "driver_sanitized", DRIVER, SANITIZERS)


@pytest.fixture(scope="session")
def aarch64_driver(builds: Path) -> Path:
    return compile_once(builds / "driver_aarch64", DRIVER, compiler="aarch64-linux-gnu-gcc")


@pytest.fixture(scope="session")
def musl_driver(builds: Path) -> Path:
    """musl has no headers of the kernel; they are taken from this machine, after all others."""
    flags = [*kernel_headers(builds), "-Wno-sign-conversion"]  # of its macro FD_SET, in the driver
    return compile_once(builds / "driver_musl", DRIVER, flags, compiler="musl-gcc")


@pytest.fixture(scope="session")
def helpers(builds: Path) -> Path:
    """Return a library for the Python programs."""
    return compile_once(builds / "libhelpers.so", [PROGRAMS / "helpers.c"], ["-shared", "-fPIC"])


@pytest.fixture(autouse=True)
def no_core_is_left() -> Iterator[None]:
    """No test may leave a core in the working directory."""
    before = set(Path.cwd().glob("core*"))
    yield
    assert set(Path.cwd().glob("core*")) == before
