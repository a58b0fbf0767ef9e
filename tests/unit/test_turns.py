"""Two collectors at a time, whatever becomes of them, and no queue where none can be."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.run import concurrency
from pytest_gencore.run.concurrency import take_turn

if TYPE_CHECKING:
    from pathlib import Path


class Stop(Exception):  # noqa: N818 - no error
    pass


def refuse() -> None:
    raise AssertionError("must not be called")


def stop() -> None:
    raise Stop


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "turns"
    monkeypatch.setattr(concurrency, "turn_directories", lambda: [tmp_path / "none" / "deeper", folder])
    return folder


def test_the_third_one_queues(folder: Path) -> None:
    queued: list[bool] = []
    with take_turn(refuse, refuse), contextlib.ExitStack() as second:
        second.enter_context(take_turn(refuse, refuse))
        with pytest.raises(Stop), take_turn(lambda: queued.append(True), stop):
            refuse()
        assert queued == [True]
        with take_turn(lambda: queued.append(True), second.close):
            assert queued == [True, True], "it goes on when the second one has ended"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_turn_ends_with_an_error(folder: Path) -> None:
    for _ in range(3):
        with pytest.raises(Stop), take_turn(refuse, refuse):
            stop()


def test_no_queue_in_a_directory_of_others(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    for _ in range(3):
        with take_turn(refuse, refuse), take_turn(refuse, refuse), take_turn(refuse, refuse):
            pass
    assert not list(folder.iterdir())


def test_no_queue_through_links(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "other")
    with take_turn(refuse, refuse), take_turn(refuse, refuse), take_turn(refuse, refuse):
        pass
    assert not list((tmp_path / "other").iterdir())


def test_a_turn_that_never_comes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "QUEUE_SECONDS", 0.01)
    checks: list[bool] = []
    with (
        take_turn(refuse, refuse),
        take_turn(refuse, refuse),
        take_turn(lambda: None, lambda: checks.append(True)),
    ):
        assert checks, "it works without one"
