"""What the plugin costs a suite of passing tests, and what a session of failing tests takes with limits.

The overhead is that of whole processes ``python -m pytest``, of one test and of thousands. The arrangements
(no plugin, off, armed) take turns, and only runs of the same round are compared: the difference of the runs
of one test is the start; that of the long runs, less the start, divided by the tests is what a test costs.

What counts is the processor time of the process (user and system, as ``wait4`` tells it), not the time that
passes, in which other processes run as well. It still varies by some per cent with what else the machine
does. So there are 30 rounds and thousands of tests, and the result is the median of the differences, shown
with the quarters around it. A result that is smaller than their distance says nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from measure import peak_memory
from results import Overhead, Session

import pytest_gencore

ARRANGEMENTS = {
    "none": ["-p", "no:gencore", "-p", "nothing"],
    "off": ["-p", "gencore"],
    "armed": ["-p", "gencore", "--gencore-on-fail"],
    "armed, timeout": ["-p", "gencore", "--gencore-on-fail", "--gencore-timeout=60"],
}
"""Each names one plugin with ``-p``: looking for that among the installed ones costs some milliseconds."""
_VERSIONS = ("none", "off")
_MAX_CORES = 10
"""Default of --gencore-max-cores."""


def measure_overhead(folder: Path, tests: int, rounds: int) -> Overhead:
    """Run one test, and many, in each arrangement once a round, another one first each time."""
    one = _make_suite(folder / "one", 1, "def test_{}(): pass")
    many = _make_suite(folder / "passing", tests, "def test_{}(): pass")
    names = list(ARRANGEMENTS)
    found = Overhead(tests, {name: [] for name in names}, {name: [] for name in names})
    found.version_s = {name: [] for name in _VERSIONS}
    found.installed_bytes = _measure_size()
    for name in names:  # compiles tests and plugin
        _measure_cpu(one, ARRANGEMENTS[name])
        _measure_cpu(many, ARRANGEMENTS[name])
    for number in range(rounds):
        print(f"  overhead: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for position in range(len(names)):
            name = names[(number + position) % len(names)]
            found.one_s[name].append(_measure_cpu(one, ARRANGEMENTS[name]))
        for position in range(len(names)):
            name = names[(number + position) % len(names)]
            found.many_s[name].append(_measure_cpu(many, ARRANGEMENTS[name]))
        for name in _VERSIONS[:: -1 if number % 2 else 1]:
            found.version_s[name].append(_measure_cpu(one, [*ARRANGEMENTS[name], "--version"]))
        found.import_s.append(_measure_import())
    return found


def _measure_import() -> float:
    """Return the processor time of the import that the entry point makes; pytest is there already."""
    code = "import pytest, time; start = time.process_time(); import pytest_gencore.plugin"
    command = [sys.executable, "-c", f"{code}; print(time.process_time() - start)"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _measure_size() -> int:
    """Return the bytes of what is installed; an editable installation has more in its folder."""
    folder = Path(pytest_gencore.__file__).parent
    left_out = {"__pycache__", "csrc"}
    files = (path for path in folder.rglob("*") if path.is_file() and not left_out & {*path.parts})
    return sum(path.stat().st_size for path in files)


def _measure_cpu(suite: Path, options: list[str]) -> float:
    """Return the seconds that a whole run kept processors busy, its children included."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    log = suite / "output.txt"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=suite, env=_make_environment(), stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"pytest ended with status {process.returncode}:\n{log.read_text()[-2000:]}")
    return usage.ru_utime + usage.ru_stime


def _make_environment() -> dict[str, str]:
    """Return an environment without other plugins, in which compiled code is kept as after the first run."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in ("PYTEST_ADDOPTS", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    return environment


def measure_session(folder: Path, tests: int, rounds: int) -> Session:
    """Run many, and ten, failing tests without the plugin and with it."""
    code = "def test_{}():\n    numbers = list(range(1000))\n    assert sum(numbers) == 0"
    many = _make_suite(folder / "many", tests, code)
    ten = _make_suite(folder / "ten", _MAX_CORES, code)
    off, on = ARRANGEMENTS["none"], ["-p", "gencore", "--gencore-on-fail"]
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
    (folder / "nothing.py").write_text("")
    (folder / "test_suite.py").write_text("\n\n".join(code.format(n) for n in range(tests)) + "\n")
    return folder


class _Run:
    """A run of pytest, to its end."""

    def __init__(self, suite: Path, options: list[str]) -> None:
        self.memory = self.collectors = 0
        log = suite / "output.txt"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
        artifacts = suite / "gencore-artifacts"
        with log.open("w") as file:
            started = time.perf_counter()
            process = subprocess.Popen(command, cwd=suite, env=_make_environment(), stdout=file, stderr=file)
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
