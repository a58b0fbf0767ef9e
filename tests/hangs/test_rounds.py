"""Randomised rounds: the same project with and without the plugin ends in the same way.

``GENCORE_ROUNDS`` is the number of rounds (8; 20 in CI), ``GENCORE_SEED`` what they are made of (4).
"""

from __future__ import annotations

import os
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from capabilities import has_plain_core_pattern, needs
from counts import count
from kernel import settings_lock
from lean_runs import ALL_PLUGINS
from projects import Project

if TYPE_CHECKING:
    from pathlib import Path

    from projects import Ended

ROUNDS = int(os.environ.get("GENCORE_ROUNDS", count(8, thorough=12)))
SEED = os.environ.get("GENCORE_SEED", "4")

TRIGGERS = {
    "pass": "pass",
    "fail": "assert 0",
    "segv": "ctypes.string_at(8)",
    "abort": "os.abort()",
    "ill": "LIBRARY.illegal()",
    "assert": "LIBRARY.fail_assertion()",
    "overflow": "LIBRARY.overflow(0)",
    "fatal": "ctypes.pythonapi.Py_FatalError(b'all is lost')",
    "exit": "os._exit(3)",
    "kill": "os.kill(os.getpid(), 9)",
    "sleep": "threading.Event().wait()",
    "lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
}
METHODS = ("auto", "memory", "kernel") if has_plain_core_pattern() else ("auto", "memory")
HANGS = {"sleep", "lock"}
MOMENTS = ("call", "call", "call", "setup", "teardown", "module", "collection", "end")
TIMEOUTS = {
    "signal": ("--timeout=1", "--timeout-method=signal"),
    "thread": ("--timeout=1", "--timeout-method=thread"),
    "faulthandler": ("-ofaulthandler_timeout=1", "-ofaulthandler_exit_on_timeout=true"),
}
MIXES: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("--reruns=1",),
    ("-p", "no:faulthandler"),
    ("-p", "no:rerunfailures"),
    ("-s",),
    ("--capture=sys",),
    ("-p", "no:xdist", "-p", "no:rerunfailures"),
    ("-n1", "--max-worker-restart=2"),
    ("-n2", "--max-worker-restart=2"),
    ("-n2", "--dist=loadfile", "--max-worker-restart=1"),
)
SAMPLE = """\
import ctypes, os, pytest, threading
LIBRARY = ctypes.CDLL({library!r})
def act():
    {action}
for _ in range({threads}):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
@pytest.fixture(scope="module")
def module():
    if {moment!r} == "module": act()
@pytest.fixture
def function(module):
    if {moment!r} == "setup": act()
    yield
    if {moment!r} == "teardown": act()
def test_1(): pass
{marker}
def test_2(function):
    if {moment!r} == "call": act()
def test_3(): pass
if {moment!r} == "collection": act()
"""
CONFTEST = """\
def pytest_sessionfinish(session):
    import sys
    module = sys.modules.get("test_a")
    if module is not None:
        module.act()
"""


@dataclass(frozen=True, slots=True)
class Round:
    """What is tried."""

    trigger: str
    moment: str
    threads: int
    marker: bool
    ours: tuple[str, ...]
    others: tuple[str, ...]

    def write(self, project: Project, library: Path) -> None:
        text = SAMPLE.format(
            library=str(library),
            action=TRIGGERS[self.trigger],
            threads=self.threads,
            moment=self.moment,
            marker="@pytest.mark.gencore" if self.marker else "",
        )
        (project.folder / "test_a.py").write_text(text)
        (project.folder / "pytest.ini").write_text("[pytest]\nmarkers = gencore\n")
        if self.moment == "end":
            (project.folder / "conftest.py").write_text(CONFTEST)


def make_round(number: int) -> Round:
    """Return a round; the same for the same seed and number."""
    choose = random.Random(f"{SEED} {number}")
    trigger = choose.choice(list(TRIGGERS))
    timeout = choose.choice(list(TIMEOUTS))
    others = choose.choice(MIXES)
    moment = choose.choice(MOMENTS)
    if trigger in HANGS:
        moment = choose.choice(["call", "setup", "teardown"])
        if "--reruns=1" in others:  # no timer of pytest-timeout runs for the second attempt
            others = ()
        if timeout == "faulthandler" and "no:faulthandler" in others:
            others = ()
        others += TIMEOUTS[timeout]
    elif choose.random() < 0.5:
        others += ("--timeout=60",)
    marker = choose.random() < 0.25
    ours = [f"--gencore-method={choose.choice(METHODS)}", "--gencore-filter=0x11"]
    ours += [f"--gencore-threads={choose.choice(['all', 'calling'])}"]
    ours += [] if marker else ["--gencore-on-fail"]
    ours += ["--gencore-timeout=60"] if choose.random() < 0.5 else []
    return Round(trigger, moment, choose.choice([0, 1, 3, 20]), marker, tuple(ours), others)


def normalise(text: str, project: Project) -> list[str]:
    """Return faulthandler's words of all processes, sorted: addresses differ, and who is first."""
    found: list[list[str]] = []
    is_inside = False
    for line in text.replace(str(project.folder), "").splitlines():
        if re.match(r"Fatal Python error|Thread 0x|Current thread 0x|Timeout \(", line):
            found.append([])
            is_inside = True
        is_inside &= bool(re.match("Fatal|Thread|Current|Timeout|  File", line))
        if is_inside:
            found[-1].append(re.sub("0x[0-9a-f]+", "0x", line))
    return sorted("\n".join(block) for block in found)


def outcomes(ended: Ended) -> list[str]:
    """Return the lines of ``-rA``, and the numbers of the last line."""
    lines = re.findall(r"^(?:PASSED|FAILED|ERROR|RERUN|SKIPPED) \S+", ended.out, re.MULTILINE)
    numbers = re.findall(r"^=+ (\d.*) in [\d.]+s.*=+$", ended.out, re.MULTILINE)
    return sorted(lines) + [re.sub(r", \d+ warnings?", "", line) for line in numbers]


@pytest.mark.slow
@needs("gcc")
@pytest.mark.parametrize("number", range(ROUNDS))
def test_round(tmp_path: Path, crashers: Path, number: int) -> None:
    """As without us: status, outcomes, faulthandler's text; and nothing is left."""
    played = make_round(number)
    ours, plain = Project(tmp_path / "ours"), Project(tmp_path / "plain")
    for project in (ours, plain):
        project.folder.mkdir()
        played.write(project, crashers)

    with settings_lock(exclusive=False):
        others = (*played.others, *(ALL_PLUGINS if number % 4 == 0 else ()))
        running = plain.start("-rA", "-p", "no:gencore", *others)
        ended = ours.run("-rA", *played.ours, *others)
        expected = running.end()
    ours.close()
    plain.close()

    assert ended.status == expected.status, played
    assert outcomes(ended) == outcomes(expected), played
    if not (played.moment == "end" and "-n2" in others):  # both die at once: their texts are in one another
        assert normalise(ended.err, ours) == normalise(expected.err, plain), played
    check_archives(ours, ended, played)


def check_archives(project: Project, ended: Ended, played: Round) -> None:
    """There is one archive where something was to be captured, and none elsewhere."""
    archives = project.find_archives()
    is_outside = played.moment in ("collection", "end")
    is_unseen = played.trigger in HANGS and not any("--timeout=1" in option for option in played.others)
    if played.trigger in ("pass", "exit", "kill") or (played.trigger == "fail" and is_outside) or is_unseen:
        assert not archives, played
    elif is_outside:
        assert played.marker or archives, played
        assert not played.marker or not archives, played
    else:
        phase = "setup" if played.moment == "module" else played.moment
        assert list(project.archives()) == [f"test_a.py::test_2 {phase}"], (played, ended)
