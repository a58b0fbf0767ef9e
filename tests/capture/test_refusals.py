"""Captures that cannot begin: a clear error, and never a trace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from gencore_archives import find_left
from hostile_captures import needs_root
from process_state import processes_in
from subjects import python_for_everybody, run_subject

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("plain_core_pattern")


REFUSED = """
import os, resource, sys
from pathlib import Path
from subjects import *
from pytest_gencore.errors import CaptureError
from pytest_gencore.run.folder import run_folder_name
from process_state import describe_process
directory = Path(sys.argv[1])
elsewhere = directory.parent / "elsewhere"
{before}
captures = Captures(directory)
run_folder = directory / run_folder_name(captures.run_id)
{between}
describe_process()
state = describe_process()
try:
    capture = captures.take()
    report(error="")
except CaptureError as error:
    report(error=str(error), same=state == describe_process())
"""


def refusal(directory: Path, *, before: str = "", between: str = "", python: str | None = None) -> str:
    """Return the error of a capture that left its process as it was."""
    script = REFUSED.format(before=before, between=between)
    answer = run_subject(script, directory, python=python)
    assert answer["error"], "it was refused"
    assert answer["same"]
    assert not processes_in(directory)
    return str(answer["error"])


def test_directory_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")

    error = refusal(tmp_path / "out")

    assert error == (
        f"cannot make or open the directory {tmp_path}/out: ENOTDIR Not a directory"
        " (choose another directory with --gencore-dir)"
    )
    assert (tmp_path / "out").read_text() == "mine"


def test_no_pipes(tmp_path: Path) -> None:
    """No word of the directory: it is not to blame."""
    error = refusal(tmp_path / "out", between='refuse_calls({"pipe2": 23})')

    assert error == "cannot create a pipe or a file in memory: ENFILE Too many open files in system"


def test_directory_is_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "none")

    assert "cannot make or open the directory" in refusal(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@needs_root
@pytest.mark.parametrize("name", ["out", "a/b/out"])
def test_directory_cannot_be_made(open_path: Path, name: str) -> None:
    """What is missing is missing because it must not be made."""
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    (open_path / "parent").mkdir(mode=0o755)
    directory = open_path / "parent" / name

    error = refusal(directory, before="give_up_privileges()", python=python)

    assert error == (
        f"cannot make or open the directory {directory}: EACCES Permission denied"
        " (choose another directory with --gencore-dir)"
    )


@needs_root
def test_directory_is_not_writable(open_path: Path) -> None:
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    (open_path / "out").mkdir(mode=0o755)

    error = refusal(open_path / "out", before="give_up_privileges()", python=python)

    assert error == (
        f"cannot make a private folder in {open_path}/out: EACCES Permission denied"
        " (choose another directory with --gencore-dir)"
    )
    assert not list((open_path / "out").iterdir())


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (
            "directory.mkdir(); elsewhere.mkdir(mode=0o700); run_folder.symlink_to(elsewhere)",
            "cannot make a private folder in OUT: ENOTDIR Not a directory",
        ),
        (
            "directory.mkdir(); run_folder.mkdir(); run_folder.chmod(0o755)",
            "no private folder in OUT: the one that is there is open to other users",
        ),
        (
            "directory.mkdir(); run_folder.mkdir(mode=0o700); os.chown(run_folder, 65534, 65534)",
            "no private folder in OUT: the one that is there belongs to another user",
        ),
        (
            "directory.mkdir(); run_folder.write_text('')",
            "cannot make a private folder in OUT: ENOTDIR Not a directory",
        ),
    ],
    ids=["link", "open to others", "of somebody else", "file"],
)
def test_run_folder_is_not_ours(tmp_path: Path, between: str, reason: str) -> None:
    if "chown" in between and os.geteuid() != 0:
        pytest.skip("needs root")
    error = refusal(tmp_path / "out", between=between)

    what = reason.replace("OUT", f"{tmp_path}/out")
    assert error == f"{what} (choose another directory with --gencore-dir)"
    assert len(list((tmp_path / "out").iterdir())) == 1, "what was there, and no more"
    assert not (tmp_path / "elsewhere").exists() or not list((tmp_path / "elsewhere").iterdir())


NO_PROCESSES = """
give_up_privileges({uid})
resource.setrlimit(resource.RLIMIT_NPROC, ({limit}, {limit}))
"""


@needs_root
@pytest.mark.parametrize(
    ("limit", "what"),
    [
        (1, "cannot create a process"),
        (2, "cannot create a process"),
        (3, "cannot fork a snapshot of the process"),
    ],
)
def test_limit_of_processes(open_path: Path, limit: int, what: str) -> None:
    """One by one: the middle process, the collector, the snapshot."""
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    before = NO_PROCESSES.format(uid=200_000 + os.getpid(), limit=limit)

    error = refusal(open_path / "out", before=before, python=python)

    assert error.startswith(f"{what}: EAGAIN Resource temporarily unavailable (raise the limit on processes")
    assert not (open_path / "out").exists() or not list((open_path / "out").iterdir())


def test_interpreter_is_gone(tmp_path: Path) -> None:
    before = "os.symlink(sys.executable, sys.argv[1] + '.python'); sys.executable = sys.argv[1] + '.python'"
    between = "os.unlink(sys.executable)"

    error = refusal(tmp_path / "out", before=before, between=between)

    assert error.startswith(f"cannot start the collector with {tmp_path}/out.python: ENOENT")
    assert not list((tmp_path / "out").iterdir())


UNAVAILABLE = """
import sys
from subjects import *
from pytest_gencore.errors import UnavailableError
sys.executable = eval(sys.argv[2])
try:
    Captures(sys.argv[1])
except UnavailableError as error:
    report(error=str(error))
"""


@pytest.mark.parametrize("value", ["''", "None", "'/none/python'", "'/etc/passwd'"])
def test_interpreter_is_not_known(tmp_path: Path, value: str) -> None:
    answer = run_subject(UNAVAILABLE, tmp_path / "out", value)

    assert answer["error"].startswith("the Python interpreter cannot be started again: sys.executable is ")
    assert not (tmp_path / "out").exists()


TAKEN = """
import os, sys, time
from pathlib import Path
from subjects import *
directory = Path(sys.argv[1])
directory.mkdir()
captures = Captures(directory)
now = time.time()
for second in range(30):
    stamp = time.strftime("%Y%m%d.%H%M%S", time.gmtime(now + second))
    (directory / f"core_{stamp}.{os.getpid()}.001.tar.gz").write_text("mine")
    (directory / f"core_{stamp}.{os.getpid()}.002.tar.gz.partial").symlink_to("/none")
captures.take()
report(outcomes=captures.finish())
"""


def test_names_are_taken(tmp_path: Path) -> None:
    """Sixty files that are not ours stay; the third name is free."""
    (outcome,) = run_subject(TAKEN, tmp_path / "out")["outcomes"]

    assert outcome["state"] == "done"
    assert outcome["archive"].endswith(".003.tar.gz")
    assert len(find_left(tmp_path / "out")) == 61
    assert all(path.read_text() == "mine" for path in (tmp_path / "out").glob("*.001.tar.gz"))
