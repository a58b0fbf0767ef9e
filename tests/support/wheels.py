"""Building the package from a copy of its sources: a build leaves files beside them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from projects import is_foreign

ROOT = Path(__file__).parents[2]
SOURCES = ("pytest_gencore", "build_extension.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.so", "build", "*.egg-info")
FOREIGN = ("PYTHONPATH", "PYTHONHOME")


def run(*command: str | Path, timeout: float = 180) -> str:
    """Run a program that must succeed, without what this run of pytest has set; return what it prints."""
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=clean_environment(),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def clean_environment() -> dict[str, str]:
    """Return the environment without variables that change which package is found, or what it does."""
    return {name: value for name, value in os.environ.items() if not (is_foreign(name) or name in FOREIGN)}


def copy_sources(folder: Path) -> None:
    """Copy what a build needs into a new folder."""
    folder.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=LEFT_OUT)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)


def build_wheel_with(python: str | Path, source: str | Path, folder: str | Path = "") -> list[str]:
    """Return the command that builds a wheel with the setuptools of an environment; nothing is downloaded."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    return [str(python), "-m", "pip", "wheel", *options, "--wheel-dir", str(folder or source), str(source)]


def build_wheel(source: Path, folder: Path) -> Path:
    """Build with the running environment."""
    run(*build_wheel_with(sys.executable, source, folder))
    (path,) = folder.iterdir()
    return path
