"""The frozen section calls nothing that could take a lock: judged by the undefined symbols of its objects."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from native_builds import CSRC, FROZEN_SOURCES, ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs("gcc")

ALLOWED = re.compile(r"gencore_\w+|mem(set|cpy|move)|strlen|_GLOBAL_OFFSET_TABLE_|__aarch64_\w+")
"""The four functions are what a compiler may make of a loop or an assignment."""
ALLOWED_IN = {"engine.c": {"sysconf"}}
"""gencore_prepare runs before anything is frozen."""
DESIRED_ARGUMENTS = re.compile(r"^extra-compile-args = \[(.*)\]", re.MULTILINE)


def compile_arguments() -> list[str]:
    """Return what pyproject.toml compiles the extension with."""
    match = DESIRED_ARGUMENTS.search((ROOT / "pyproject.toml").read_text())
    assert match is not None
    return re.findall(r'"([^"]+)"', match[1])


def forbidden_symbols(source: Path, folder: Path, compiler: str = "gcc") -> set[str]:
    """Compile as for the wheel; return the undefined symbols that are not on the list."""
    output = folder / f"{source.stem}.o"
    macros = ["-DPy_LIMITED_API=0x030a0000", "-D_GNU_SOURCE=1"]
    command = [
        compiler,
        *macros,
        f"-I{CSRC}",
        "-fPIC",
        *compile_arguments(),
        "-c",
        str(source),
        "-o",
        str(output),
    ]
    subprocess.run(command, check=True, timeout=60)
    listing = subprocess.run(
        ["nm", "-u", output], check=True, timeout=60, capture_output=True, text=True
    ).stdout
    names = {line.split()[-1] for line in listing.splitlines()}
    return {name for name in names if not ALLOWED.fullmatch(name)} - ALLOWED_IN.get(source.name, set())


@pytest.mark.parametrize("source", FROZEN_SOURCES, ids=lambda path: path.name)
def test_only_allowed_symbols(source: Path, tmp_path: Path) -> None:
    assert forbidden_symbols(source, tmp_path) == set()


@needs("aarch64")
@pytest.mark.parametrize("source", FROZEN_SOURCES, ids=lambda path: path.name)
def test_only_allowed_symbols_on_aarch64(source: Path, tmp_path: Path) -> None:
    # objects of another architecture: binutils' nm reads them all
    assert forbidden_symbols(source, tmp_path, "aarch64-linux-gnu-gcc") == set()


def test_the_check_rejects_malloc(tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    source.write_text("#include <stdlib.h>\nvoid *gencore_bad(void) { return malloc(1); }\n")
    assert forbidden_symbols(source, tmp_path) == {"malloc"}


def test_every_source_is_checked() -> None:
    assert {path.name for path in FROZEN_SOURCES} | {"module.c"} == {path.name for path in CSRC.glob("*.c")}
