"""How a collector runs the program that uploads, and what it makes of its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.collector.abort import CaptureAborted
from pytest_gencore.collector.outcome import upload as upload_module
from pytest_gencore.collector.outcome.upload import Uploader
from pytest_gencore.run.folder import run_folder_name
from pytest_gencore.run.library_index import LibraryIndex, LibraryKey
from pytest_gencore.texts import Folders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORE = "file:///somewhere"
ARGUMENTS = "import json, sys; sys.exit(json.dumps(sys.argv[1:]))"
STALLS = "import time; print(3, flush=True); print(5, flush=True); time.sleep(60)"
NAMES = ("core_20261121.225921.9520.001.txt", "core_20261121.225921.9520.001.tar.gz")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A collector ignores these at its end; this process, and what it starts, must not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    yield
    for number, action in before.items():
        signal.signal(number, action)


def new_uploader(folder: Path, program: str, *, shares_libraries: bool = False) -> Uploader:
    for name in NAMES:
        (folder / name).write_text("12345")
    command = (sys.executable, "-I", "-S", "-c", program)
    folders = Folders(invocation_dir=str(folder / "invoked-in"))
    session = SimpleNamespace(store=STORE, upload_command=command, folders=folders)
    run = SimpleNamespace(session=session, run_folder=run_folder_name("1-2-abc"), executable=sys.executable)
    request = SimpleNamespace(product="archive", shares_libraries=shares_libraries)
    handover: Any = SimpleNamespace(context=SimpleNamespace(run=run, request=request), run_folder=folder)
    return Uploader(handover)


def upload(uploader: Uploader, folder: Path) -> tuple[str, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    state: Any = SimpleNamespace(upload=lambda done, total: told.append((done, total)))
    return uploader.upload(folder / NAMES[1], state, lambda: None), told


def test_patience_is_for_the_first(tmp_path: Path) -> None:
    """Texts come before the archive, which makes it be listed; a failure is news once."""
    uploader = new_uploader(tmp_path, ARGUMENTS)
    paths = [str(tmp_path / name) for name in NAMES]
    for patience, is_news in (("60.0", True), ("0.0", False)):
        problem, _ = upload(uploader, tmp_path)
        assert problem.startswith(f"not uploaded to {STORE}: ")
        assert json.loads(problem.partition(": ")[2]) == [patience, f"{STORE}/1-2-abc", *paths]
        assert uploader.is_news is is_news
    assert uploader.find_url(tmp_path / NAMES[1]) == f"{STORE}/1-2-abc/{NAMES[1]}"


def test_a_store_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "_STALL_SECONDS", 0.5)
    problem, told = upload(new_uploader(tmp_path, STALLS), tmp_path)
    assert problem == f"not uploaded to {STORE}: the store took no further part within 0.5 s"
    assert told[-1] == (5, 10)


@pytest.mark.parametrize(
    ("done", "seconds", "is_over"),
    [(0, 19, False), (0, 21, True), (3, 21, False), (3, 119, False), (3, 121, True)],
)
def test_a_store_that_has_failed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int, seconds: int, is_over: bool
) -> None:
    """One that has taken a file answers: the part that is under way has as much time as ever."""
    uploader = new_uploader(tmp_path, "")
    uploader._note_failure()
    state: Any = SimpleNamespace(upload=lambda done, total: None)
    output = f"{done}\n".encode()
    now = [1000.0]
    monkeypatch.setattr(upload_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    uploader._look(output, state, 10)
    now[0] += seconds
    with pytest.raises(upload_module._StoreFailedError) if is_over else contextlib.nullcontext():
        uploader._look(output, state, 10)


def test_all_is_there(tmp_path: Path) -> None:
    assert upload(new_uploader(tmp_path, "print(10)"), tmp_path)[0] == ""


@pytest.mark.parametrize(
    ("program", "why"), [("import os; os.abort()", "status -6"), ("1/0", "ZeroDivision")]
)
def test_a_program_that_dies(tmp_path: Path, program: str, why: str) -> None:
    assert why in upload(new_uploader(tmp_path, program), tmp_path)[0]


def test_what_is_no_fault_of_the_store(tmp_path: Path) -> None:
    """The archive is gone, the collector is told to end: the patience of others stays."""

    def abort() -> None:
        raise CaptureAborted("told to end")

    missing = f"import os, sys; sys.stderr.write('gone'); sys.exit({os.EX_NOINPUT})"
    uploader = new_uploader(tmp_path, missing)
    assert upload(uploader, tmp_path)[0] == f"not uploaded to {STORE}: gone"
    state: Any = SimpleNamespace(upload=lambda done, total: None)
    assert new_uploader(tmp_path, STALLS).upload(tmp_path / NAMES[1], state, abort).endswith(": told to end")
    uploader = new_uploader(tmp_path, ARGUMENTS)
    assert '["60.0", ' in upload(uploader, tmp_path)[0]
    assert uploader.is_news


def test_a_success_gives_the_patience_back(tmp_path: Path) -> None:
    for program in (ARGUMENTS, "print(10)"):
        upload(new_uploader(tmp_path, program), tmp_path)
    uploader = new_uploader(tmp_path, ARGUMENTS)
    assert '["60.0", ' in upload(uploader, tmp_path)[0]
    assert uploader.is_news


def test_relative_paths_begin_where_pytest_was_invoked(tmp_path: Path) -> None:
    program = "import os, sys; sys.exit(os.getcwd())"
    assert upload(new_uploader(tmp_path, program), tmp_path)[0] == f"not uploaded to {STORE}: /"
    (tmp_path / "invoked-in").mkdir()
    problem, _ = upload(new_uploader(tmp_path, program), tmp_path)
    assert problem == f"not uploaded to {STORE}: {tmp_path}/invoked-in"


def test_libraries_are_uploaded_once(tmp_path: Path) -> None:
    """Those that came with an earlier capture of the run, not those of one that failed."""
    names = ["libraries_1.tar.gz", "libraries_2.tar.gz"]

    def share(name: str) -> None:
        (tmp_path / name).write_text("12345")
        index = LibraryIndex(tmp_path)
        with index.locked():
            index.add(tmp_path / name, [LibraryKey(f"/{name}", "1")])

    def find_uploaded(program: str) -> list[str]:
        uploader = new_uploader(tmp_path, program, shares_libraries=True)
        upload(uploader, tmp_path)
        paths = json.loads((tmp_path / "arguments").read_text())[2:]
        return [path.rpartition("/")[2] for path in paths]

    keep = f"import json, sys; open({str(tmp_path / 'arguments')!r}, 'w').write(json.dumps(sys.argv[1:]))"
    share(names[0])
    assert find_uploaded(f"{keep}; sys.exit(1)") == [NAMES[0], names[0], NAMES[1]]
    assert find_uploaded(keep) == [NAMES[0], names[0], NAMES[1]]
    share(names[1])
    assert find_uploaded(keep) == [NAMES[0], names[1], NAMES[1]]
    assert find_uploaded(keep) == list(NAMES)
