"""Sample projects whose tests hang and crash: run by pytest in a process and session of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from documents import check_document
from gencore_archives import find_left, read_manifest
from kernel import wait_until
from lean_runs import WITH_LIBRARIES, base_arguments
from oracles import run_tool
from process_state import processes_in

from pytest_gencore.ci.systems import VARIABLES
from pytest_gencore.run.folder import has_captures
from pytest_gencore.run.started import find_lost_runs

if TYPE_CHECKING:
    from collections.abc import Mapping

SUPPORT = Path(__file__).parent
ARTIFACTS = "gencore-artifacts"
FOREIGN = (*VARIABLES.values(), "BUILD_NUMBER", "CI", "CI_PROJECT_DIR", "COLUMNS", "FAKE_CAPTURE")
"""Variables that change what pytest or the plugin do; and all that begin with ``PYTEST``."""
ON_FAIL = ("--gencore-on-fail", "--gencore-filter=0x11", "--gencore-max-cores=100")
QUICK = (*ON_FAIL, "--gencore-method=memory")
OPENED = (*QUICK, WITH_LIBRARIES)
"""For archives that debuggers open."""
EXITS = ("-o", "gencore_exit_on_timeout=true")


def is_foreign(variable: str) -> bool:
    """Return whether a run that a test makes must not have it."""
    return variable in FOREIGN or variable.startswith("PYTEST")


@dataclass(frozen=True, slots=True)
class Ended:
    """A run of pytest that is over, and so are its collectors."""

    status: int
    """As ``subprocess`` has it: negative for a signal."""
    out: str
    err: str
    folder: Path
    """Where it was started."""

    def counts(self) -> dict[str, int]:
        """Return the numbers of pytest's last line."""
        last = self.out.rstrip().splitlines()[-1]
        return {word.rstrip("s"): int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", last)}

    def announced(self) -> list[str]:
        """Return the archives whose collectors named them on standard error."""
        shown = re.findall(r"^gencore: core archive: (\S+)  \(", self.err, re.MULTILINE)
        return [str(self.folder / path) for path in shown]


def show(out: str, err: str) -> None:
    """Print what an inner run wrote: pytest shows it with the failure of a test that looked at the run."""
    print(out, end="")
    print(err, end="", file=sys.stderr)


class Running:
    """A run of pytest."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.was_killed = False
        self.has_summary = True
        """Whether it has come to its end: else it may leave the list of its tests, for the next run."""

    def end(self, timeout: float = 120) -> Ended:
        """Wait for the end of the process, and of the collectors that may still have something to say."""
        out, err = self.process.communicate(timeout=timeout)
        show(out, err)
        assert "INTERNALERROR" not in out + err, out + err
        self.has_summary = re.search(r"^=.* in \d.*=$|^\d+ \w+.* in \d[\d.]*s", out, re.MULTILINE) is not None
        return Ended(self.process.returncode, out, err, self.folder)

    def kill(self) -> Ended:
        """Kill it and its workers, as somebody who has waited too long."""
        self.was_killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        out, err = self.process.communicate(timeout=60)
        show(out, err)
        return Ended(self.process.returncode, out, err, self.folder)

    def kill_group(self) -> None:
        """Kill the children that an ended run has left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def kill_when_told(self, text: str) -> Ended:
        """Kill it when its standard error has this text."""
        err = self.wait_until_told(text)
        ended = self.kill()
        return dataclasses.replace(ended, err=err + ended.err)

    def wait_until_told(self, text: str) -> str:
        """Wait until its standard error has this text; return what it has until then."""
        assert self.process.stderr is not None
        lines: list[str] = []
        while text not in (line := self.process.stderr.readline()):
            assert line, f"{text!r} was not told: {''.join(lines)}"
            lines.append(line)
        return "".join([*lines, line])


class Project:
    """A folder with tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Running] = []

    def write(self, **sources: str) -> None:
        """Write Python files by their names without suffix."""
        for name, source in sources.items():
            (self.folder / f"{name}.py").write_text(textwrap.dedent(source))

    def start(
        self,
        *arguments: str,
        pystack: bool = False,
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Running:
        """Start pytest, as ``lean_runs`` says, with ``PYTHONPATH`` to the helpers here."""
        base = base_arguments(arguments, pystack=pystack)
        return self._start([*prefix, sys.executable, "-m", "pytest", *base, *arguments], environment or {})

    def run_program(self, *arguments: str) -> Ended:
        """Run a Python program to its end."""
        return self._start([sys.executable, *arguments], {}).end()

    def gencore(self, *arguments: str | Path) -> Ended:
        """Run the command ``gencore`` to its end."""
        return self.run_program("-m", "pytest_gencore", *map(str, arguments))

    def _start(self, command: list[str], environment: Mapping[str, str]) -> Running:
        kept = {name: value for name, value in os.environ.items() if not is_foreign(name)}
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**kept, "PYTHONPATH": str(SUPPORT), **environment},
        )
        self._running.append(Running(process, self.folder))
        return self._running[-1]

    def run(
        self,
        *arguments: str,
        pystack: bool = False,
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Ended:
        """Run pytest to its end."""
        running = self.start(*arguments, pystack=pystack, prefix=prefix, environment=environment)
        return running.end(timeout)

    def find_archives(self) -> list[Path]:
        """Return the archives that are finished, in order of name."""
        return sorted((self.folder / ARTIFACTS).glob("*.tar.gz"))

    def wait_for_archives(self, count: int = 1) -> list[Path]:
        """Wait until so many archives are finished."""
        wait_until(lambda: len(self.find_archives()) >= count, f"there are {count} archives", timeout=90)
        return self.find_archives()

    def archives(self) -> dict[str, Path]:
        """Return the archives by what their manifests name: ``NODEID PHASE``; one for each at most."""
        found = {}
        for path in self.find_archives():
            manifest = read_manifest(path)
            check_document(path)
            name = f"{manifest['nodeid'] or ''} {manifest['phase'] or ''}".strip()
            assert name not in found, "one archive a test"
            found[name] = path
        return found

    def shown(self, archive: Path) -> str:
        """Return an archive's path as a log shows it."""
        return os.path.relpath(archive, self.folder)

    def only_archive(self) -> Path:
        """Return the only archive there is."""
        (archive,) = self.find_archives()
        return archive

    def unpack(self, archive: Path) -> Path:
        """Unpack with plain tar; return the folder."""
        target = self.folder / "unpacked"
        target.mkdir(exist_ok=True)
        run_tool("tar", "xzf", archive, "-C", target)
        return target / archive.name.removesuffix(".tar.gz")

    def close(self) -> None:
        """Kill what is left; nothing may be left of captures but archives, and no process."""
        for running in self._running:
            if running.process.poll() is None:
                running.kill()
        wait_until(lambda: not processes_in(self.folder), f"no process uses {self.folder}", timeout=90)
        folder = self.folder / ARTIFACTS
        if folder.exists() and not any(running.was_killed for running in self._running):
            others = [path.name for path in find_left(folder) if not path.name.endswith(".tar.gz")]
            if not all(running.has_summary for running in self._running):
                lost = [run.folder for run in find_lost_runs(folder)]
                others = [name for name in others if folder / name not in lost or has_captures(folder / name)]
            assert not others, f"something is left: {others}"
