"""The wheel for Windows, made on Linux: with the program that writes minidumps, and without the extension.

As a program, for ``.ci/wheels``: ``windows_wheel.py FOLDER`` writes it there, and says where.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
COMPILER: Final = "x86_64-w64-mingw32-gcc"
_FLAGS: Final = (
    *("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wvla", "-Werror"),
    *("-municode", "-s", "-Wl,--no-insert-timestamp"),  # the same bytes from the same source
)
PROGRAM: Final = "pytest_gencore/portable/gencore-minidump.exe"
_BUILD: Final = """
import sys
from setuptools import build_meta
options = ["--plat-name=win_amd64", "--python-tag=py3"]
print(build_meta.build_wheel(sys.argv[1], {"--build-option": options}))
"""


def compile_program(output: Path, *sources: Path, libraries: tuple[str, ...] = ()) -> Path:
    """Compile C for 64-bit Windows with warnings as errors; return ``output``."""
    command = [COMPILER, *_FLAGS, *map(str, sources), *libraries, "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return output


def make_wheel(folder: Path) -> Path:
    """Build it into an empty or missing folder; return its path."""
    tree = folder / "tree"
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "build", "*.egg-info")
    shutil.copytree(ROOT / "pytest_gencore", tree / "pytest_gencore", ignore=ignored)
    for name in ("pyproject.toml", "build_extension.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    source = tree / "pytest_gencore/portable/csrc/windows.c"
    compile_program(tree / PROGRAM, source, libraries=("-ldbghelp",))
    command = [sys.executable, "-c", _BUILD, str(folder)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tree)
    path = folder / done.stdout.split()[-1]
    check_wheel(path)
    return path


def check_wheel(path: Path) -> None:
    """Fail unless it has all modules and the program, nothing for Linux, and the right name."""
    assert path.name.endswith("-py3-none-win_amd64.whl"), path
    with zipfile.ZipFile(path) as file:
        names = set(file.namelist())
        assert file.read(PROGRAM)[:2] == b"MZ"
    modules = {str(module.relative_to(ROOT)) for module in (ROOT / "pytest_gencore").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert not [name for name in names if "csrc" in name or name.endswith((".so", ".c", ".h"))]


if __name__ == "__main__":
    print(make_wheel(Path(sys.argv[1])))
