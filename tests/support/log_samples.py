"""The examples whose logs the documentation shows: what each of them must say, and how they are run."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernel import wait_until
from process_state import processes_in
from projects import is_foreign

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[2]
SUPPORT = str(ROOT / "tests/support")
COLUMNS = 104
TIMEOUT = "--gencore-timeout=2 -o gencore_exit_on_timeout=true"
ADDOPTS = "-p gencore -p xdist -p no:cacheprovider --color=yes"
"""No plugin but those that are shown."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A test that fails, hangs or crashes, and what its reader looks for."""

    file: str
    options: str
    culprit: str
    """The line of source that explains it."""
    others: tuple[str, ...] = ()
    """Lines of other threads that are part of it."""
    verdict: str = ""
    """The verdict as an expression; empty if there is none."""

    @property
    def command(self) -> str:
        return " ".join(filter(None, ("pytest --gencore-on-fail", self.options, self.file)))


SAMPLES = {
    "failing": Sample("test_example.py", "", "assert sum(prices) == 85", ("while orders.get()",)),
    "gil": Sample(
        "test_gil.py",
        TIMEOUT,
        "return sum(itertools.repeat(1))",
        verdict=r"busy: 98 % CPU in sum\(\), test_gil\.py:10",
    ),
    "locks": Sample(
        "test_deadlock.py",
        TIMEOUT,
        "with ledger:",
        ("with accounts:",),
        r"deadlock: MainThread waits for lock 'ledger' held by refund \(test_deadlock\.py:21\), "
        r"which waits for lock 'accounts' held by MainThread \(test_deadlock\.py:13\)",
    ),
    "rlocks": Sample(
        "test_rlock.py",
        TIMEOUT,
        "with self.lock:",
        verdict=r"deadlock: MainThread waits for lock 'Account\.lock' held by refund \(test_rlock\.py:16\), "
        r"which waits for lock 'Account\.lock' held by MainThread \(test_rlock\.py:16\)",
    ),
    "fork": Sample(
        "test_fork.py",
        TIMEOUT,
        "child.join()",
        verdict=r"waits for child \d+ \(forked\): MainThread \(test_fork\.py:20\) waits for lock "
        r"'AuditHandler\.audit', which no `with` of the child holds; in the parent it is held by chatter "
        r"\(test_fork\.py:20\): probably the classical deadlock after fork \(use spawn or forkserver, or "
        r"fork before threads start\)",
    ),
    "tasks": Sample(
        "test_tasks.py",
        TIMEOUT,
        "asyncio.run(serve())",
        verdict=r"asyncio: serve waits for task 'consumer' \(test_tasks\.py:10\), "
        r"which waits for queue\.get\(\) of an empty queue \('orders'\)",
    ),
    "silent": Sample(
        "test_silent.py",
        TIMEOUT,
        "client.recv(100)",
        verdict=r"waits for 127\.0\.0\.1:\d+.*, connected, nothing received .*",
    ),
    "child": Sample(
        "test_child.py",
        TIMEOUT,
        "child.wait()",
        verdict=r"waits for child \d+: .*, sleeping in (?:anon_)?pipe_write: its output pipe \(fd 1\) "
        r"is full and the test process does not read it",
    ),
    "crash": Sample("test_crash.py", "", "return ctypes.string_at(address)"),
}


class Build:
    """A folder with the examples in which pytest is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "docs/examples", folder)

    def run(
        self,
        command: str,
        *,
        with_stacks: bool = False,
        more: Mapping[str, str] | None = None,
        files: Sequence[Path] = (),
    ) -> str:
        """Return what a terminal would show, but for this machine's paths and numbers.

        ``with_stacks``: use pystack, which not everybody has. ``more`` is added to the environment;
        what the run has left in ``files`` comes last.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            if not (is_foreign(name) or name.startswith("GENCORE"))
        }
        output = self.folder.with_suffix(".output")
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *command.split()],
                cwd=self.folder,
                env={
                    **environment,
                    **(more or {}),
                    "COLUMNS": str(COLUMNS),
                    "PYTEST_ADDOPTS": ADDOPTS if with_stacks else f"{ADDOPTS} -p without_pystack",
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                    "PYTHONPATH": os.pathsep.join(filter(None, [SUPPORT, os.environ.get("PYTHONPATH")])),
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(timeout=100)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # a child that hangs outlives its parent
        wait_until(lambda: not processes_in(self.folder), "all collectors have ended", timeout=60)
        text = output.read_text(errors="replace")
        assert "INTERNALERROR" not in text, text
        left = [path.read_text() for path in files if path.exists()]
        return self._without_machine("".join([text, *left]))

    def _without_machine(self, text: str) -> str:
        """Replace paths, and numbers that differ from run to run."""
        paths = {
            str(self.folder): "/build",
            sys.executable: "/build/.venv/bin/python",
            sysconfig.get_path("purelib"): "/build/.venv/lib/python3/site-packages",
            sys.prefix: "/build/.venv",
            sysconfig.get_path("stdlib"): "/usr/lib/python3",
        }
        for path, shown in paths.items():
            text = text.replace(os.path.realpath(path), shown).replace(path, shown)
        numbers: dict[str, str] = {}

        def renumber(match: re.Match[str]) -> str:
            number = numbers.setdefault(match[2], str(4101 + len(numbers)))
            return f"{match[1]}{number}"

        text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:5432", text)
        text = re.sub(r"(since it was made|received for|,) [\d.]+ s (ago|old|\()", r"\1 2 s \2", text)
        text = re.sub(r"busy: \d+ % CPU", "busy: 98 % CPU", text)
        text = re.sub(r"core_\d{8}\.\d{6}\.", "core_20261121.225921.", text)
        text = re.sub(r"((?:native id|process|child) |core_20261121\.225921\.)(\d+)", renumber, text)
        return re.sub(r"0x[0-9a-f]{12,}", "0x00007f0000000000", text)


def find_alone(text: str) -> str:
    """Return what we printed: the section of a report and the summary, or what a collector told."""
    lines = text.splitlines()
    section = next((at for at, line in enumerate(lines) if re.match(r"-+ gencore -+$", line)), None)
    if section is not None:
        end = next(at for at, line in enumerate(lines) if "short test summary info" in line)
        return "\n".join(lines[section:end])
    start = next(
        at
        for at, line in enumerate(lines)
        if re.match(r"gencore: (?:took|SIG|busy|deadlock|asyncio|waits)", line)
    )
    end = max(at for at, line in enumerate(lines) if line.startswith("gencore: "))
    return "\n".join(lines[start : end + 1])


def find_in_run(text: str, file: str) -> str:
    """Return what a controller printed about one test: the section of its report, or a dead worker's."""
    sections = re.split(r"^_{3,} .+ _{3,}$|^={3,} .+ ={3,}$", text, flags=re.MULTILINE)
    starts = {
        section: match.start()
        for section in sections
        if f"{file}::" in section and "\nThread " in section
        if (match := re.search(r"^(?:-+ gencore -+|worker 'gw\d+' crashed .*)$", section, re.MULTILINE))
    }
    ((report, start),) = starts.items()
    return re.sub(r"\bgw\d+", "gw0", report[start:].rstrip("\n"))
