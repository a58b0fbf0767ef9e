"""``gencore check`` tells the truth: what it predicts is what a real capture does."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import find_python_program, has_program, needs
from kernel import core_pattern, settings_lock, small_disk
from subjects import python_for_everybody
from without_extension import copy_package

from pytest_gencore.cli import machine

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    RunProgram = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.kernel_settings

BECOME = "import os, sys; from subjects import *; {before}; os.execv(sys.argv[1], sys.argv[1:])"
HARD_LIMIT_0 = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))"
NO_PTRACE = "refuse_calls({'ptrace': 1, 'process_vm_readv': 1})"
TOOLS = [name for name in ("gdb", "pystack") if has_program(name) or find_python_program(name)]


def prefix(before: str, python: str | None = None) -> tuple[str, ...]:
    """Return the start of a command whose process does something first."""
    return (python or sys.executable, "-c", BECOME.format(before=before))


def check(run_program: RunProgram, directory: Path, **options: Any) -> tuple[int, dict[str, Any]]:
    """Return status and answer of a check with self-test."""
    predicted = run_program("check", directory, "--json", **options)
    done = run_program("check", directory, "--json", "--selftest", **options)
    answer: dict[str, Any] = json.loads(done.stdout)
    if answer["can_capture"]:
        assert predicted.returncode == 0, predicted.stdout
        assert json.loads(predicted.stdout)["method"] == answer["method"] == answer["selftest"]["method"]
    assert done.returncode == (0 if answer["can_capture"] else 1)
    assert not list(directory.glob("*")), "nothing is left"
    assert not list(directory.glob(".*")), "nothing is left"
    return done.returncode, answer


def assert_works(answer: dict[str, Any]) -> None:
    assert answer["can_capture"], answer["selftest"]
    assert (answer["method"], answer["method_reason"]) == ("memory", "the default")
    assert answer["selftest"]["threads"] == 2
    assert answer["selftest"]["opened_with"] == ["reader", *TOOLS], answer["selftest"]


@needs("root")
def test_plain(run_program: RunProgram, tmp_path: Path) -> None:
    with core_pattern("core"):
        _, answer = check(run_program, tmp_path / "out")

    assert_works(answer)
    assert not (tmp_path / "out").exists(), "made for the test only"


@needs("root")
def test_pipe(run_program: RunProgram, tmp_path: Path) -> None:
    with core_pattern("|/bin/false %p"):
        _, answer = check(run_program, tmp_path / "out")

    assert_works(answer)
    (finding,) = [finding for finding in answer["findings"] if finding["name"] == "core_pattern"]
    assert finding["value"] == "|/bin/false %p: matters to --gencore-method=kernel only"
    assert finding["state"] == "ok"


@needs("root")
def test_hard_limit_0(run_program: RunProgram, tmp_path: Path) -> None:
    with core_pattern("core"):
        _, answer = check(run_program, tmp_path / "out", prefix=prefix(HARD_LIMIT_0))

    assert_works(answer)


@needs("root")
def test_unprivileged(run_program: RunProgram, open_path: Path) -> None:
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    with core_pattern("core"):
        _, answer = check(
            run_program,
            open_path / "out",
            python=shutil.which(python),
            prefix=prefix("give_up_privileges()"),
            HOME="/nonexistent",
        )

    assert answer["can_capture"], answer["selftest"]
    assert answer["method"] == "memory"
    assert answer["selftest"]["opened_with"][0] == "reader"


@needs("root")
def test_full_disk(run_program: RunProgram, tmp_path: Path) -> None:
    with settings_lock(exclusive=False), small_disk(tmp_path / "disk", "1m") as disk:
        status, answer = check(run_program, disk / "out")

    assert (status, answer["can_capture"], answer["method"]) == (1, False, None)
    assert re.search(r": the disk is (nearly )?full: ", answer["selftest"]["reason"])


@needs("root")
def test_seccomp_without_ptrace(run_program: RunProgram, tmp_path: Path) -> None:
    with core_pattern("core"):
        _, answer = check(run_program, tmp_path / "out", prefix=prefix(NO_PTRACE))

    assert_works(answer)
    (finding,) = [finding for finding in answer["findings"] if finding["name"] == "seccomp"]
    assert finding["value"].startswith("a filter")


@needs("root")
def test_directory_that_cannot_be_written(run_program: RunProgram, open_path: Path) -> None:
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    (open_path / "out").mkdir(mode=0o755)

    for arguments in (["check"], ["check", "--selftest"]):
        result = run_program(
            *arguments, open_path / "out", python=shutil.which(python), prefix=prefix("give_up_privileges()")
        )
        assert result.returncode == 1
        assert result.stdout.splitlines()[-1].startswith("captures do not work: ")


@pytest.mark.parametrize(
    ("mode", "state", "value"),
    [
        (0o700, "ok", "private folders can be made in OUT"),
        (0o1777, "ok", "private folders can be made in OUT"),
        (
            0o777,
            "note",
            "others can replace the archives in it: everybody can write to it, and it has no sticky bit",
        ),
    ],
)
def test_directory_of_others(
    run_program: RunProgram, tmp_path: Path, mode: int, state: str, value: str
) -> None:
    """Captures work there: it is said, and no more."""
    tmp_path.chmod(mode)

    done = run_program("check", tmp_path, "--json")

    (finding,) = [entry for entry in json.loads(done.stdout)["findings"] if entry["name"] == "directory"]
    assert (finding["state"], finding["value"]) == (state, value.replace("OUT", str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_file_system_without_private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those that give every file one owner and one mode."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    finding = machine._directory(tmp_path)

    assert (finding.state, finding.value) == (
        "problem",
        f"a new folder in {tmp_path} is not private: it belongs to user {os.getuid()}",
    )
    assert not list(tmp_path.iterdir())


def test_text(run_program: RunProgram, tmp_path: Path) -> None:
    with settings_lock(exclusive=False):
        result = run_program("check", tmp_path)

    names = {line[8:21].strip() for line in result.stdout.splitlines()[:-1] if not line.startswith(" ")}
    assert {
        "python",
        "kernel",
        "core_pattern",
        "core limit",
        "yama",
        "seccomp",
        "directory",
        "disk",
        "memory",
        "gdb",
    } <= names
    assert result.stdout.splitlines()[-1].startswith("nothing found that prevents captures, with method ")
    assert not list(tmp_path.iterdir())


def test_without_the_extension(tmp_path: Path, run_program: RunProgram) -> None:
    """A copy of the package as it is where nothing was compiled: captures have texts."""
    path = copy_package(tmp_path / "site")["PYTHONPATH"]

    result = run_program("check", tmp_path / "out", PYTHONPATH=path)
    assert result.returncode == 0
    assert "not built: the portable text backend, tried with its Python on Linux only" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(
        "nothing found that prevents captures, of type text (the C extension is not built here);"
    )

    tested = run_program("check", tmp_path / "out", "--selftest", PYTHONPATH=path)
    assert tested.returncode == 0
    assert "captures work: a real one was made of type text" in tested.stdout
    assert not (tmp_path / "out").exists()
    assert run_program("list", tmp_path, PYTHONPATH=path).returncode == 0
