"""What the plugin costs a suite of passing tests, and what a session of failing tests takes with limits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from measure import peak_memory
from results import Overhead, Session

if TYPE_CHECKING:
    from pathlib import Path

ARRANGEMENTS = {
    "disabled": ["-p", "no:gencore"],
    "installed, off": ["-p", "gencore"],
    "armed": ["-p", "gencore", "--gencore-on-fail", "--gencore-timeout=60"],
}
_CONFTEST = """
import json, time
import pytest
starts = []

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    starts.append(time.perf_counter_ns())
    return (yield)

def pytest_sessionfinish():
    with open("starts.json", "w") as file:
        json.dump(starts, file)
"""
_MAX_CORES = 10
"""Default of --gencore-max-cores."""


def measure_overhead(folder: Path, tests: int, rounds: int) -> Overhead:
    """Run the suite in each arrangement once a round, another one first each time."""
    suite = _make_suite(folder / "passing", tests, "def test_{}(): pass")
    (suite / "conftest.py").write_text(_CONFTEST)
    names = list(ARRANGEMENTS)
    found = Overhead(tests, {name: [] for name in names}, {name: [] for name in names})
    _Run(suite, ARRANGEMENTS["armed"])  # compiles the tests
    for number in range(rounds):
        for position in range(len(names)):
            name = names[(number + position) % len(names)]
            print(f"  overhead: {name}, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            watched = _Run(suite, ARRANGEMENTS[name])
            starts = json.loads((suite / "starts.json").read_text())
            times = sorted(after - before for before, after in pairwise(starts))
            found.test_us[name].append(times[len(times) // 2] / 1000)
            found.session_s[name].append(watched.seconds)
    return found


def measure_session(folder: Path, tests: int, rounds: int) -> Session:
    """Run many, and ten, failing tests without the plugin and with it."""
    code = "def test_{}():\n    numbers = list(range(1000))\n    assert sum(numbers) == 0"
    many = _make_suite(folder / "many", tests, code)
    ten = _make_suite(folder / "ten", _MAX_CORES, code)
    off, on = ARRANGEMENTS["disabled"], ["-p", "gencore", "--gencore-on-fail"]
    for suite in (many, ten):
        _Run(suite, off)
    found = Session(tests)
    for number in range(rounds):
        print(f"  session of failing tests, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        without, with_plugin = _Run(many, off), _Run(many, on)
        found.off_s.append(without.seconds)
        found.on_s.append(with_plugin.seconds)
        found.off_bytes.append(without.memory)
        found.on_bytes.append(with_plugin.memory)
        found.archives.append(with_plugin.archives)
        found.collectors.append(with_plugin.collectors)
        found.account = _account_of(with_plugin.output)
        found.ten_off_s.append(_Run(ten, off).seconds)
        found.ten_on_s.append(_Run(ten, on).seconds)
    return found


def _make_suite(folder: Path, tests: int, code: str) -> Path:
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_suite.py").write_text("\n\n".join(code.format(n) for n in range(tests)) + "\n")
    return folder


class _Run:
    """A run of pytest, to its end."""

    def __init__(self, suite: Path, options: list[str]) -> None:
        self.memory = self.collectors = 0
        log = suite / "output.txt"
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        environment.pop("PYTEST_ADDOPTS", None)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        artifacts = suite / "gencore-artifacts"
        with log.open("w") as file:
            started = time.perf_counter()
            process = subprocess.Popen(command, cwd=suite, env=environment, stdout=file, stderr=file)
            while process.poll() is None:
                self.memory = max(self.memory, peak_memory(process.pid))
                self.collectors = max(self.collectors, _writing(artifacts))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.02)
            self.seconds = time.perf_counter() - started
        self.output = log.read_text()
        if process.returncode not in {0, 1}:
            raise RuntimeError(f"pytest ended with status {process.returncode}:\n{self.output[-2000:]}")
        self.archives = len(list(artifacts.glob("*.tar.gz")))
        shutil.rmtree(artifacts, ignore_errors=True)


def _writing(artifacts: Path) -> int:
    """Return how many collectors are at work on a core; those that wait for a turn expect nothing yet."""
    count = 0
    for path in artifacts.glob(".gencore-*/*.json"):
        with contextlib.suppress(OSError, ValueError):
            state = json.loads(path.read_bytes())
            count += state.get("state") == "working" and state.get("bytes_total", 0) > 0
    return count


def _account_of(output: str) -> list[str]:
    """Return the summary's section without the names of the archives."""
    section = re.search(r"^=+ gencore =+\n(.*?)(?=^=+ |\Z)", output, re.DOTALL | re.MULTILINE)
    lines = section.group(1).splitlines() if section else ["no section"]
    return [line for line in lines if ".tar.gz" not in line][:10]
