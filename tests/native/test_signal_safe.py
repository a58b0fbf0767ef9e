"""Signal-safe code calls nothing but itself: judged by the undefined symbols of its objects, joined."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from native_builds import CSRC, GLUE, ROOT, SIGNAL_SAFE_SOURCES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = needs("gcc")

ALLOWED = re.compile(r"_GLOBAL_OFFSET_TABLE_|__aarch64_\w+")
"""The linker's own, and what libgcc puts into the extension for atomic operations of older processors."""
DESIRED_ARGUMENTS = re.compile(r"^extra-compile-args = \[(.*)\]", re.MULTILINE)


def compile_arguments() -> list[str]:
    """Return what pyproject.toml compiles the extension with."""
    match = DESIRED_ARGUMENTS.search((ROOT / "pyproject.toml").read_text())
    assert match is not None
    return re.findall(r'"([^"]+)"', match[1])


def forbidden_symbols(sources: Sequence[Path], folder: Path, tools: str = "") -> set[str]:
    """Compile as for the wheel and join; return what is undefined then and not on the list."""
    macros = ["-DPy_LIMITED_API=0x030a0000", "-D_GNU_SOURCE=1"]
    objects: list[Path] = []
    for source in sources:
        objects.append(folder / f"{source.stem}.o")
        command = [f"{tools}gcc", *macros, f"-I{CSRC}", "-fPIC", *compile_arguments(), "-c"]
        subprocess.run([*command, source, "-o", objects[-1]], check=True, timeout=60)
    joined = folder / "joined.o"
    subprocess.run([f"{tools}ld", "-r", "-o", joined, *objects], check=True, timeout=60)
    listing = subprocess.run(
        ["nm", "-u", joined], check=True, timeout=60, capture_output=True, text=True
    ).stdout
    names = {line.split()[-1] for line in listing.splitlines()}
    return {name for name in names if not ALLOWED.fullmatch(name)}


def test_nothing_is_called_but_ourselves(tmp_path: Path) -> None:
    assert forbidden_symbols(SIGNAL_SAFE_SOURCES, tmp_path) == set()


@pytest.mark.slow
@needs("aarch64")
def test_nothing_is_called_but_ourselves_on_aarch64(tmp_path: Path) -> None:
    # objects of another architecture: binutils' nm reads them all
    assert forbidden_symbols(SIGNAL_SAFE_SOURCES, tmp_path, "aarch64-linux-gnu-") == set()


@pytest.mark.slow
def test_the_check_rejects_malloc(tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    source.write_text("#include <stdlib.h>\nvoid *gencore_bad(void) { return malloc(1); }\n")
    assert forbidden_symbols([*SIGNAL_SAFE_SOURCES, source], tmp_path) == {"malloc"}


def test_the_check_finds_what_a_compiler_makes_of_a_loop(tmp_path: Path) -> None:
    source = tmp_path / "loop.c"
    source.write_text("void gencore_clear(char *at, long n) { for (long i = 0; i < n; i++) at[i] = 0; }\n")
    assert forbidden_symbols([source], tmp_path) == {"memset"}


def test_every_source_is_checked() -> None:
    assert {path.name for path in SIGNAL_SAFE_SOURCES} | GLUE == {path.name for path in CSRC.glob("*.c")}
