"""The command line, run as a program or in this process; one real archive for all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from subjects import run_subject, search_path

from pytest_gencore.cli.program import program

if TYPE_CHECKING:
    from collections.abc import Callable

SUBJECT = """
import sys, threading
from subjects import *
captures = Captures(sys.argv[1])
done, ready = threading.Event(), threading.Event()
def wait_for_the_moon(secret):
    ready.set()
    done.wait()
threading.Thread(target=wait_for_the_moon, args=("moon-\\x1b[31mred",), name="moon", daemon=True).start()
ready.wait()
def the_test_function():
    captures.take(
        method=sys.argv[2], core_filter=0xFF, trigger="failure", nodeid="test_moon.py::test_it", phase="call",
        failure_text="def test_it():\\nE   assert \\x1b[31mred",
    )
the_test_function()
report(outcomes=captures.finish())
"""


@pytest.fixture(scope="session")
def real_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of a process with two threads: of ``the_test_function`` and ``wait_for_the_moon``."""
    directory = tmp_path_factory.mktemp("real") / "gencore-artifacts"
    (outcome,) = run_subject(SUBJECT, directory, "memory")["outcomes"]
    assert outcome["state"] == "done"
    return Path(outcome["archive"])


@pytest.fixture
def gencore() -> Callable[..., Result]:
    """Run the command line in this process."""

    def run(*arguments: str | Path) -> Result:
        result = CliRunner().invoke(program, [str(argument) for argument in arguments])
        assert isinstance(result.exception, SystemExit | None), result.exception
        return result

    return run


@pytest.fixture
def run_program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line as a program."""

    def run(
        *arguments: str | Path, python: str | None = None, prefix: tuple[str, ...] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [*prefix, python or sys.executable, "-m", "pytest_gencore", *map(str, arguments)]
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
            cwd="/",
            env={**os.environ, "PYTHONPATH": search_path(), **environment},
        )

    return run


def answer(output: str) -> Any:
    """Return the JSON that a subcommand has printed."""
    return json.loads(output)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for temporary files of programs."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path / "tmp"
