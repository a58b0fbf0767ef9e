"""Two collectors of a run at a time, whatever becomes of them, and no queue where none can be."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.run import concurrency
from pytest_gencore.run.concurrency import collector_slot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Callback = Callable[[], None]
    Acquire = Callable[[Callback, Callback], contextlib.AbstractContextManager[None]]


class Stop(Exception):  # noqa: N818 - no error
    pass


def refuse() -> None:
    raise AssertionError("must not be called")


def stop() -> None:
    raise Stop


@pytest.fixture
def acquire(tmp_path: Path) -> Acquire:
    return functools.partial(collector_slot, tmp_path)


def test_the_third_one_queues(acquire: Acquire, tmp_path: Path) -> None:
    queued: list[bool] = []
    with acquire(refuse, refuse), contextlib.ExitStack() as second:
        second.enter_context(acquire(refuse, refuse))
        with pytest.raises(Stop), acquire(lambda: queued.append(True), stop):
            refuse()
        assert queued == [True]
        with acquire(lambda: queued.append(True), second.close):
            assert queued == [True, True], "it goes on when the second one has ended"
    assert {path.name for path in tmp_path.iterdir()} == {"collector-1", "collector-2"}
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_slot_ends_with_an_error(acquire: Acquire) -> None:
    for _ in range(3):
        with pytest.raises(Stop), acquire(refuse, refuse):
            stop()


def test_no_queue_where_no_file_can_be(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with (
        collector_slot(missing, refuse, refuse),
        collector_slot(missing, refuse, refuse),
        collector_slot(missing, refuse, refuse),
    ):
        pass


def test_no_queue_through_links(acquire: Acquire, tmp_path: Path) -> None:
    (tmp_path / "collector-1").symlink_to(tmp_path / "other")
    with acquire(refuse, refuse), acquire(refuse, refuse), acquire(refuse, refuse):
        pass
    assert not (tmp_path / "other").exists()


def test_a_slot_that_never_comes(acquire: Acquire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrency, "QUEUE_SECONDS", 0.01)
    checks: list[bool] = []
    with (
        acquire(refuse, refuse),
        acquire(refuse, refuse),
        acquire(lambda: None, lambda: checks.append(True)),
    ):
        assert checks, "it works without one"
