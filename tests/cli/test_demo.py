"""``gencore demo``: a first run shows what a capture is, whatever the user's configuration says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kernel import wait_until

from pytest_gencore.archive import read_archive
from pytest_gencore.cli import demo, machine

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from click.testing import Result


IN_TERMINAL = (
    sys.executable,
    "-c",
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where temporary folders are made: what is there would end a run of pytest that reads it."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    (tmp_path / "conftest.py").write_text("raise SystemExit(9)\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


@pytest.mark.slow
def test_three_captures(folder: Path, run_program: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    opener = folder / "xdg-open"
    opener.write_text(f'#!/bin/sh\necho "$1" > {folder}/new; mv {folder}/new {folder}/opened\n')
    opener.chmod(0o700)
    path = f"{folder}:{os.environ['PATH']}"

    done = run_program(
        "demo", prefix=IN_TERMINAL, TMPDIR=str(folder), NO_COLOR="1", PATH=path, DISPLAY=":9", TERM="xterm"
    )

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(
        r"^gencore: deadlock: MainThread waits for lock 'ledger' held by refund \(test_hang\.py:\d+\), which"
        r" waits for lock 'accounts' held by MainThread",
        done.stdout,
        re.MULTILINE,
    )
    assert "SIGSEGV (SEGV_MAPERR: address not mapped) at address 0x8" in done.stdout
    assert re.search(
        r"^Thread consumer, .*\n(?:  .*\n)*  File \"test_fail.py\", line 8", done.stdout, re.MULTILINE
    )
    (made,) = left_in(folder)
    archives = sorted((folder / made / "gencore-artifacts").glob("*.tar.gz"))
    assert [read_archive(path).manifest.trigger.kind for path in archives] == ["timeout", "crash", "failure"]
    named = [
        shlex.split(line) for line in done.stdout.splitlines() if line.startswith(("gencore show", "rm"))
    ]
    assert named == [["gencore", "show", str(archives[0])], ["rm", "-r", str(folder / made)]]
    assert run_program(*named[0][1:]).returncode == 0
    wait_until((folder / "opened").exists, "the page is opened")
    page = Path((folder / "opened").read_text().strip())
    assert page.parent == folder / made
    assert all(name in page.read_text() for name in ("test_hang", "test_crash", "test_fail"))
    shutil.rmtree(folder / made)


def test_machine_that_cannot_capture(
    folder: Path, gencore: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        machine, "examine", lambda _: [machine.Finding("kernel", "Plan 9", "problem", "captures need Linux")]
    )

    result = gencore("demo")

    assert result.exit_code == 1
    assert result.output == "Error: this machine cannot capture: kernel: Plan 9; see gencore check\n"
    assert left_in(folder) == []


def test_run_without_a_capture(
    folder: Path, gencore: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_FILES", {"test_fine.py": "def test_fine(): pass\n"})

    result = gencore("demo")

    assert result.exit_code == 1
    (made,) = left_in(folder)
    where = folder / made / "test_fine.py"
    assert f"Error: {where} was not captured; ask this machine: gencore check --selftest\n" in result.output


def test_run_that_does_not_end(
    folder: Path, gencore: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_FILES", {"test_long.py": "import threading\nthreading.Event().wait()\n"})
    monkeypatch.setattr(demo, "_SECONDS", 0.1)

    result = gencore("demo")

    assert result.exit_code == 1
    assert "pytest was not finished after 0.1 s" in result.output
