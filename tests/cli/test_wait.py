"""wait, and list of what is not finished: what they wait for, print and answer."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from held_captures import HELPERS
from subjects import python_for_everybody

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Gencore = Callable[..., Result]
    RunProgram = Callable[..., subprocess.CompletedProcess[str]]


def test_wait_when_nobody_is_at_work(gencore: Gencore, tmp_path: Path) -> None:
    (tmp_path / ".gencore-1-2-3").mkdir()
    (tmp_path / ".gencore-1-2-3" / "core_x.json").write_text("{}")

    assert gencore("wait", tmp_path / "none").exit_code == 0
    assert gencore("wait", tmp_path).exit_code == 0


def test_wait_gives_up(gencore: Gencore, tmp_path: Path) -> None:
    (tmp_path / ".gencore-1-2-3").mkdir()
    with (tmp_path / ".gencore-1-2-3" / "core_x.json").open("w") as state:
        fcntl.flock(state, fcntl.LOCK_EX)
        result = gencore("wait", tmp_path, "--timeout", "0.3s", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["working"] == 1
    assert "1 capture is still being collected\n1 not finished after 0.3 s" in result.stderr


def test_wait_does_not_wait_for_a_pipe(run_program: RunProgram, tmp_path: Path) -> None:
    folder = tmp_path / ".gencore-1-2-3"
    folder.mkdir()
    os.mkfifo(folder / "x.json")
    (tmp_path / ".gencore-4-5-6").symlink_to(folder)

    assert run_program("wait", tmp_path, "--timeout", "2s").returncode == 0


@needs("root")
def test_wait_of_another_user(run_program: RunProgram, open_path: Path) -> None:
    """It cannot know, and says so at once: what others can be seen to hold may be made up, too."""
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    for name, mode in ((".gencore-1-2-3", 0o700), (".gencore-4-5-6", 0o755)):
        (open_path / name).mkdir()
        (open_path / name).chmod(mode)
        (open_path / name / "core_x.json").write_text("{}")
    with (open_path / ".gencore-4-5-6" / "core_x.json").open() as state:
        fcntl.flock(state, fcntl.LOCK_EX)
        result = run_program(
            "wait", open_path, "--json", python=shutil.which(python), prefix=as_nobody(python)
        )

    assert result.returncode == 1
    assert json.loads(result.stdout) | {"waited_s": 0} == {"working": 0, "unknown": 2, "waited_s": 0}
    assert result.stderr.splitlines() == [
        f"whether captures are finished is not known: {open_path}/{name} belongs to user 0; "
        "run this as that user"
        for name in (".gencore-1-2-3", ".gencore-4-5-6")
    ]


def as_nobody(python: str) -> tuple[str, ...]:
    """Return the start of a command that gives up its privileges first."""
    code = "import os, sys; from subjects import *; give_up_privileges(); os.execv(sys.argv[1], sys.argv[1:])"
    return (python, "-c", code)


AT_WORK = """
import os, sys
from subjects import *
captures = Captures(sys.argv[1])
ballast = os.urandom(60_000_000)
captures.take(method="memory")
report()
os._exit(0)
"""


def test_wait_for_a_collector(gencore: Gencore, tmp_path: Path) -> None:
    """Its test process is gone; when the wait is over, the archive is there."""
    from subjects import run_subject

    run_subject(AT_WORK, tmp_path / "out")

    assert gencore("wait", tmp_path / "out", "--timeout", "60").exit_code == 0

    assert gencore("list", tmp_path / "out").output.count(".tar.gz  ") == 1
    assert not list((tmp_path / "out").glob("*.partial"))


NOT_FINISHED = """
captures = Captures(sys.argv[1])
finished = captures.take(trigger="failure", nodeid="test_a.py::test_finished", phase="call")
captures.run.wait(timeout=50)
capture, collector = hold(captures, nodeid="test_a.py::test_held")
snapshot = suspend_snapshot(collector)
collector.resume()
wait_until(lambda: captures.run.outcomes()[1].captured_pid, "it is at work")
listed = subprocess.run(
    [sys.executable, "-m", "pytest_gencore", "list", sys.argv[1], *sys.argv[2:]],
    capture_output=True, text=True, timeout=50,
)
snapshot.resume()
report(out=listed.stdout, err=listed.stderr, outcomes=captures.finish())
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_list_while_a_collector_is_at_work(tmp_path: Path, arguments: list[str]) -> None:
    from subjects import run_subject

    told = run_subject("import subprocess" + HELPERS + NOT_FINISHED, tmp_path / "out", *arguments)

    finished, held = (outcome["archive"] for outcome in told["outcomes"])
    assert finished in told["out"]
    assert held not in told["out"]
    assert told["err"] == f"still being written: {held}  failure  test_a.py::test_held (call)\n"
