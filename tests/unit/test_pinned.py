"""What is read of a run's folder, and what of it is not believed."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import needs

from pytest_gencore.collector.outcome.os_errors import describe_os_error
from pytest_gencore.errors import ArchiveError
from pytest_gencore.run.folder import is_locked, new_run_id, run_folder_name
from pytest_gencore.run.naming import give_name
from pytest_gencore.run.pinned import describe_exposure, pin, pinned, read_regular
from pytest_gencore.run.run import Run
from pytest_gencore.run.state import CaptureState, read_state, write_state

if TYPE_CHECKING:
    from pathlib import Path

ESCAPE = "\x1b]0;title\x07"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir(mode=0o700)
    return path


def test_a_pinned_folder_stays(folder: Path, tmp_path: Path) -> None:
    (folder / "file").write_text("mine")
    with pinned(folder) as path:
        assert path is not None
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        assert (path / "file").read_text() == "mine"


def test_a_path_in_a_pinned_folder_is_shown_as_it_is(folder: Path) -> None:
    path = pin(folder)

    with pytest.raises(OSError, match="No such file") as caught:
        (path / "none").read_text()
    assert describe_os_error(caught.value, folder) == f"No such file or directory: {folder}/none"


@pytest.mark.parametrize("what", ["missing", "open", "link", "file"])
def test_what_is_not_pinned(folder: Path, tmp_path: Path, what: str) -> None:
    path = folder
    if what == "open":
        folder.chmod(0o770)
    elif what != "missing":
        path = tmp_path / what
        path.symlink_to(folder) if what == "link" else path.write_text("")
    else:
        path = tmp_path / what
    with pinned(path) as opened:
        assert opened is None
    assert not pin(path).exists()


@pytest.mark.parametrize("what", ["pipe", "link", "folder"])
def test_only_regular_files_are_read(folder: Path, what: str) -> None:
    path = folder / "core_x.json"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - of different kinds
        read_regular(path, 10)
    assert not is_locked(path)
    assert read_state(path) is None


def test_no_more_than_the_limit_is_read(folder: Path) -> None:
    path = folder / "core_x.json"
    path.write_bytes(b"0123456789")
    assert read_regular(path, 4) == b"6789"
    os.truncate(path, 1 << 40)
    assert read_state(path) is None


@pytest.mark.parametrize(
    "facts",
    [
        {"result": "../core_x.tar.gz"},
        {"result": "/core_x.tar.gz"},
        {"result": "core_y.tar.gz"},
        {"result": ["core_x"]},
        {"claim": "claim-1/../../x"},
        {"claim": "../x"},
        {"claim": 5},
        {"slot": "../x"},
        {"state": "unheard of"},
    ],
)
def test_states_that_cannot_be_true(folder: Path, facts: dict[str, Any]) -> None:
    path = folder / "core_x.json"
    for changes in ({"result": "core_x.tar.gz", "claim": "claim-1"}, {"result": "core_x"}, {}):
        path.write_text(json.dumps(dataclasses.asdict(CaptureState()) | changes))
        assert read_state(path) == CaptureState(**changes)  # type: ignore[arg-type]
        path.write_text(json.dumps(dataclasses.asdict(CaptureState()) | changes | facts))
        assert read_state(path) is None


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, "{", "5", ""])
def test_states_that_are_none(folder: Path, text: str) -> None:
    path = folder / "core_x.json"
    path.write_text(text)
    assert read_state(path) is None


def test_texts_are_escaped(tmp_path: Path) -> None:
    run_id = new_run_id()
    folder = tmp_path / run_folder_name(run_id)
    folder.mkdir(mode=0o700)
    descriptor = os.open(folder / "core_x.json", os.O_RDWR | os.O_CREAT, 0o600)
    write_state(descriptor, CaptureState(state="failed", reason=ESCAPE, summary=ESCAPE, answered=True))
    os.close(descriptor)
    (folder / "core_x.txt").write_text(f"one\ntwo {ESCAPE}\n")

    (outcome,) = Run(tmp_path, run_id).outcomes()

    shown = r"\x1b]0;title\x07"
    assert (outcome.reason, outcome.summary, outcome.answer) == (shown, shown, f"one\ntwo {shown}\n")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (0o700, ""),
        (0o755, ""),
        (0o1777, ""),
        (0o777, "everybody can write to it, and it has no sticky bit"),
        (0o775, "whoever is in group GID can write to it, and it has no sticky bit"),
    ],
)
def test_exposure(folder: Path, mode: int, reason: str) -> None:
    folder.chmod(mode)
    assert describe_exposure(folder) == reason.replace("GID", str(folder.stat().st_gid))


@needs("root")
def test_exposure_to_the_owner(folder: Path) -> None:
    os.chown(folder, 65534, 65534)
    assert describe_exposure(folder) == "it belongs to user 65534"
    assert describe_exposure(folder / "none") == ""


def test_a_file_is_named_where_links_are_not_possible(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its first name can be changed there: what others put under that is noticed."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.link", refuse)
    partial, result = folder / "x.partial", folder / "x"
    file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        partial.rename(folder / "moved")
        partial.symlink_to(folder / "moved")
        with pytest.raises(ArchiveError, match="is not the file that was written"):
            give_name(file, partial, result)
        assert not result.exists()

        partial.unlink()
        (folder / "moved").rename(partial)
        result.write_text("another one")
        with pytest.raises(ArchiveError, match="exists already"):
            give_name(file, partial, result)
        assert (result.read_text(), partial.exists()) == ("another one", True)

        result.unlink()
        give_name(file, partial, result)
        assert stat.S_ISREG(result.lstat().st_mode)
        assert not partial.exists()
    finally:
        os.close(file)
