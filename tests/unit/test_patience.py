"""Waits end when nothing has moved for a while, and not before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from kernel import wait_until

from pytest_gencore.machine import patience
from pytest_gencore.machine.patience import Patience, activity_of, describe_standstill
from pytest_gencore.machine.process import state_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SPIN = "print('ready', flush=True)\nwhile True: pass"


class Clock:
    """Stands in for ``time`` in the module."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def look_for(seconds: int, clock: Clock, waits: Patience, seen: object) -> bool:
    ended = False
    for _ in range(seconds):
        clock.now += 1
        ended = waits.has_ended(seen)
    return ended


def test_ends_when_nothing_moves(clock: Clock) -> None:
    waits = Patience(10)
    assert not look_for(10, clock, waits, "one")
    assert look_for(1, clock, waits, "one")


def test_begins_anew_with_each_move(clock: Clock) -> None:
    waits = Patience(10)
    for step in range(100):
        assert not look_for(9, clock, waits, step)


def test_a_machine_that_slept_is_no_standstill(clock: Clock) -> None:
    waits = Patience(10)
    waits.has_ended("one")
    clock.now += 86400
    assert not waits.has_ended("one")


@pytest.fixture
def spinning() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_moves_until_it_is_stopped(spinning: subprocess.Popen[bytes]) -> None:
    before = activity_of(spinning.pid)
    wait_until(lambda: activity_of(spinning.pid) != before, "it moves")
    spinning.send_signal(signal.SIGSTOP)
    wait_until(lambda: state_of(spinning.pid) == "T", "it is stopped")
    assert activity_of(spinning.pid) == activity_of(spinning.pid)
    assert (
        describe_standstill("the collector", spinning.pid, 60)
        == "the collector has not moved for 60 s: it is stopped"
    )


def test_a_process_that_waits_for_a_processor_moves(
    spinning: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    spinning.send_signal(signal.SIGSTOP)
    wait_until(lambda: state_of(spinning.pid) == "T", "it is stopped")
    monkeypatch.setattr(patience, "state_of", lambda _pid: "R")
    assert activity_of(spinning.pid) != activity_of(spinning.pid)


def test_no_process() -> None:
    pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", ""])
    os.waitpid(pid, 0)
    assert activity_of(pid) is None
    assert activity_of(0) is None, "not our own"
    assert describe_standstill("the snapshot", pid, 60) == "the snapshot has not moved for 60 s"
