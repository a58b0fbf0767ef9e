"""Randomised rounds of runs that are cancelled at any moment, whatever they are at.

``GENCORE_CANCEL_ROUNDS`` is the number of rounds (6; 20 in CI), ``GENCORE_SEED`` what they are made of (4).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import tarfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from counts import count
from gencore_archives import read_manifest
from junit_file import read_junit
from projects import Project, show

if TYPE_CHECKING:
    from pathlib import Path

    from projects import Running

ROUNDS = int(os.environ.get("GENCORE_CANCEL_ROUNDS", count(6, thorough=12)))
SEED = os.environ.get("GENCORE_SEED", "4")

ACTIONS = {
    "pass": "time.sleep(0.01)",
    "sleep": "time.sleep(100)",
    "lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "busy": "while True: pass",
    "fail": "assert 0",
    "crash": "ctypes.string_at(8)",
    "asyncio": "asyncio.run(asyncio.sleep(100))",
    "child": "subprocess.run(['sleep', '100'])",
    "ignores": "signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(100)",
}
SAMPLE = """\
import asyncio, ctypes, os, pytest, signal, subprocess, threading, time
held = bytearray(os.urandom({mebibytes} << 20))
for _ in range({threads}):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
@pytest.fixture(scope="session")
def wide():
    if {is_wide}: act()
def act():
    {action}
@pytest.mark.parametrize("number", range(20))
def test_quick(number): time.sleep(0.01)
def test_it(wide): act()
def test_again(): act()
"""
SEQUENCES = (
    [signal.SIGTERM],
    [signal.SIGTERM],
    [signal.SIGINT],
    [signal.SIGHUP],
    [signal.SIGINT, signal.SIGTERM],
    [signal.SIGTERM, signal.SIGTERM],
    [signal.SIGTERM, signal.SIGINT],
    [signal.SIGINT, signal.SIGINT],
)


@dataclass(frozen=True, slots=True)
class Round:
    """What is tried."""

    action: str
    is_wide: bool
    mebibytes: int
    threads: int
    arguments: tuple[str, ...]
    signals: tuple[tuple[float, signal.Signals], ...]
    """Each after so many seconds."""
    is_group: bool

    @property
    def has_workers(self) -> bool:
        """Whether the tests run in workers of pytest-xdist."""
        return not {"-n1", "-n2"}.isdisjoint(self.arguments)

    def write(self, project: Project) -> None:
        text = SAMPLE.format(
            mebibytes=self.mebibytes,
            threads=self.threads,
            is_wide=self.is_wide,
            action=ACTIONS[self.action],
        )
        (project.folder / "test_a.py").write_text(text)


def make_round(number: int) -> Round:
    """Return a round; the same for the same seed and number."""
    choose = random.Random(f"{SEED} {number}")
    arguments = [f"--gencore-grace={choose.choice(['0', '0.3s', '5s'])}", "--junitxml=j.xml"]
    arguments += [f"--gencore-interrupt-after={choose.choice(['0', '0.5s', '10s'])}"]
    arguments += choose.choice([[], [], ["-n2", "--max-worker-restart=1"], ["-n1"], ["--reruns=1"], ["-s"]])
    arguments += choose.choice([[], [], ["--gencore-timeout=1"], ["--gencore-session-timeout=1"]])
    moments = [choose.uniform(0.3, 2.5), choose.choice([0.0, 0.01, 0.2, 1.0])]
    return Round(
        action=choose.choice(list(ACTIONS)),
        is_wide=choose.random() < 0.2,
        mebibytes=choose.choice([0, 0, 50]),
        threads=choose.choice([0, 3, 20]),
        arguments=tuple(arguments),
        signals=tuple(zip(moments, choose.choice(SEQUENCES), strict=False)),
        is_group=choose.random() < 0.3,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", range(ROUNDS))
def test_round(tmp_path: Path, number: int) -> None:
    """It ends in a way in which it could end without us; archives are whole, and nothing is left."""
    played = make_round(number)
    project = Project(tmp_path)
    played.write(project)
    running = project.start("--gencore-on-fail", "--gencore-filter=0x11", *played.arguments)

    for seconds, signal_number in played.signals:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(seconds)
        if running.process.poll() is None:
            send(running, signal_number, is_group=played.is_group)
    ended = end(running, is_twice=len(played.signals) > 1)
    send(running, signal.SIGKILL, is_group=True)  # the children of the test

    usual = {-number for _, number in played.signals} | {2} | ({0, 1} if played.action in ENDS else set())
    usual |= {-signal.SIGSEGV} if played.action == "crash" else set()
    numbers = [number for _, number in played.signals]
    if numbers == [signal.SIGINT, signal.SIGINT] and played.has_workers:
        usual |= {1, 3}  # a second one in pytest's own ending is an error there, also without the plugin
    assert ended is None or ended in usual, played
    for archive in project.find_archives():
        with tarfile.open(archive) as tar:
            assert any(member.name.endswith("/core") for member in tar), played
        assert read_manifest(archive)["complete"], played
    is_interrupted = any(number == signal.SIGINT for _, number in played.signals)
    if (project.folder / "j.xml").exists() and not is_interrupted:  # then pytest writes nameless test cases
        read_junit(project.folder / "j.xml")
    project.close()


ENDS = {"pass", "fail", "crash"}


def send(running: Running, number: int, *, is_group: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.process.pid, number) if is_group else running.process.send_signal(number)


def end(running: Running, *, is_twice: bool, seconds: float = 25) -> int | None:
    """Return the status; None if it had to be killed: SIGINT does not end every hang."""
    deadline = time.monotonic() + seconds
    try:
        show(*running.process.communicate(timeout=deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        running.kill()
        return None
    # Whoever is ended while he tidies up leaves the run's folder.
    running.was_killed = is_twice or running.process.returncode in {-1, -2, -15}
    return running.process.returncode
