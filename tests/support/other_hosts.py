"""This host with a project, and another one on which its tests run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from far_host import far_host
from kernel import wait_until
from process_state import processes_in
from projects import ARTIFACTS, QUICK, SUPPORT, Project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from far_host import FarHost
    from projects import Running

FAILS = """
    def test_fails():
        assert 0
"""
HANGS = """
    import time, pytest
    @pytest.mark.timeout(0.5)
    def test_hangs():
        time.sleep(60)
"""
CRASHES = """
    import ctypes
    def test_crashes():
        ctypes.string_at(8)
"""
ASKS = """
    def test_asks(gencore):
        gencore.collect_core().result()
"""
IS_LARGE = """
    import os
    def test_fails():
        random = os.urandom(100 << 20)
        assert not random
"""
CACHE = "pyexecnetcache"
"""The working directory of workers, as pytest-xdist has it."""


def send(project: Project) -> tuple[str, ...]:
    """Return the arguments that send a project to its workers, and what else it needs."""
    return ("-d", f"--rsyncdir={project.folder}", f"--rsyncdir={SUPPORT}/without_pystack.py")


class Hosts:
    """This one, with a project, and another one."""

    def __init__(self, project: Project, far: FarHost) -> None:
        self.project = project
        self.far = far
        self.home = project.folder / ARTIFACTS
        self.there = far.folder / CACHE / ARTIFACTS

    def start(self, *arguments: str, spec: str = "", prefix: tuple[str, ...] = ()) -> Running:
        """Start the tests of the project on the other host.

        pytest-rerunfailures needs a server of its own that is on the same one.
        """
        base = (*QUICK, *send(self.project), f"--tx={spec or self.far.spec}", "-p", "no:rerunfailures")
        tests = str(self.project.folder / "test_a.py")
        prefix = (*self.far.prefix, *prefix)
        return self.project.start(*base, *arguments, tests, prefix=prefix)

    def find_home(self) -> list[str]:
        """Return what is in the artifact directory here."""
        return sorted(path.name for path in self.home.iterdir()) if self.home.exists() else []

    def find_there(self) -> list[str]:
        """Return what is in the one there."""
        return sorted(path.name for path in self.there.iterdir()) if self.there.exists() else []


@contextlib.contextmanager
def make_hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Give both; when all is over no process of a run is left there."""
    folder = tmp_path / "near"
    folder.mkdir()
    project = Project(folder)
    with far_host(tmp_path / "far", hidden=folder) as far:
        yield Hosts(project, far)
        project.close()
        wait_until(lambda: not processes_in(far.folder), "no process is left there")


@contextlib.contextmanager
def kept(folder: Path, copies: Path) -> Iterator[None]:
    """Give each archive that is ever in ``folder`` a second name in ``copies``."""
    copies.mkdir()
    stopped = threading.Event()

    def look() -> None:
        while not stopped.wait(0.005):
            for path in folder.glob("*.tar.gz"):
                with contextlib.suppress(FileExistsError, FileNotFoundError):
                    os.link(path, copies / path.name)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def has_begun(process: int, folder: Path) -> bool:
    """Whether a file without a name is being written in a folder."""
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()).startswith(f"{folder}/#") and descriptor.stat().st_size:
                return True
    return False


def end_connections(running: Running, which: slice = slice(None)) -> None:
    """Kill each ssh of a run, or some in the order in which they began."""
    tasks = Path(f"/proc/{running.process.pid}/task").iterdir()
    pids = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    assert pids
    for pid in sorted(pids)[which]:
        os.kill(pid, signal.SIGKILL)
