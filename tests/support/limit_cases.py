"""Random cases of lacking resources and of processes that are stopped or killed, and what may be said."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from capabilities import has_plain_core_pattern
from kernel import small_disk
from pids_cgroup import find_pids_hierarchy, pids_cgroup

if TYPE_CHECKING:
    from collections.abc import Iterator

USER: Final = 65_438
"""Whose processes nobody else has: ``ulimit -u`` counts all of a user."""
_CAPABILITIES: Final = "-all,+dac_override,+dac_read_search,+chown,+fowner"
"""So that the user can start this Python, wherever it is."""

ENDS: Final = {
    "fails": "assert 0",
    "crashes": "ctypes.string_at(8)",
    "passes": "pass",
    "leaks and fails": "leak({spare}); assert 0",
    "leaks and crashes": "leak({spare}); ctypes.string_at(8)",
}
SOURCE: Final = """
import ctypes, os
ballast = os.urandom({mebibytes} << 20)
kept = []
def leak(spare):
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        for _ in range(spare):
            os.close(kept.pop())
def test_first():
    {end}
def test_second():
    {end}
"""

TRUE_IF: Final = {
    r"File too large: |.*: EFBIG |.* \(errno 27\)$": {"fsize"},  # handlers have numbers only
    r"(.*, and )?the disk is (nearly )?full: |.*: ENOSPC |.*No space left on device": {"disk"},
    r"cannot (create a process|fork a snapshot of the process): EAGAIN ": {"pids", "nproc"},
    r"the snapshot cannot make a copy of itself to crash: Resource temporarily ": {"pids", "nproc"},
    r"the collector has not moved for \d+ s: it is stopped$": {"stop collector"},
    r"the collector ended without a word, as after SIGKILL$": {"kill collector"},
    r"the collector was killed while it started": {"kill collector"},
    r"the snapshot has not moved for \d+ s: it is stopped$": {"stop snapshot"},
    r"the process whose core the kernel writes has not moved for \d+ s": {"stop snapshot"},
    r"the snapshot ended before it was read \(signal 9\)$": {"kill snapshot"},
    r"the snapshot was ended by signal 9 before its core was written": {"kill snapshot"},
    r"the kernel's core cannot be read: the file ends within": {"fsize", "disk"},
    r"the kernel has not written the beginning of its core": {"fsize", "disk"},
    r"the kernel says that it wrote a core, but there is no file of ours": {"fsize", "disk"},
    r".*Too many open files|.*: EMFILE |.* \(errno 24\)$": {"descriptors"},
    r"the worker died of SIGSEGV without a capture; ": {"fsize", "disk", "descriptors", "kill collector"},
}
"""What is said where there is no archive, and of what it must be true: one of these was done."""


@dataclass(slots=True)
class Case:
    """One run of pytest."""

    seed: int
    source: str
    arguments: tuple[str, ...]
    causes: set[str]
    ulimits: dict[str, int] = field(default_factory=dict)
    disk: str = ""
    pids: int = 0
    injected: tuple[signal.Signals, str] | None = None
    delay: float = 0.0

    @property
    def prefix(self) -> tuple[str, ...]:
        """What the command begins with."""
        limits = " && ".join(f"ulimit -{option} {value}" for option, value in self.ulimits.items())
        shell = ("bash", "-c", f'{limits or "true"} && exec "$@"', "bash")
        if "u" not in self.ulimits:
            return shell
        caps = (f"--inh-caps={_CAPABILITIES}", f"--ambient-caps={_CAPABILITIES}")
        return ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *caps, *shell)


def make_case(seed: int) -> Case:
    """Return the case of a seed."""
    rng = random.Random(seed)
    end = rng.choice([*ENDS, "fails"])
    method = rng.choice(["memory", "kernel"] if has_plain_core_pattern() else ["memory"])
    case = Case(
        seed,
        SOURCE.format(mebibytes=rng.choice([0, 1, 20, 60]), end=ENDS[end].format(spare=rng.randrange(4))),
        (f"--gencore-method={method}", *rng.choice([(), ("--gencore-filter=0x11",), ("-n1",)])),
        set(),
    )
    if "leaks" in end:
        case.ulimits["n"] = rng.choice([128, 256])
        case.causes.add("descriptors")
    kinds = ["f", "i", "n", "disk"]
    if os.geteuid() == 0:
        kinds += ["pids"] * (find_pids_hierarchy() is not None) + ["u"] * (
            shutil.which("setpriv") is not None
        )
    for kind in rng.sample(kinds, rng.choice([0, 1, 1, 2])):
        _add_limit(case, kind, rng)
    if case.causes & {"pids", "nproc"}:  # pytest-xdist hangs, and pytest-rerunfailures has a thread
        case.arguments = (case.arguments[0], "-p", "no:rerunfailures", "-p", "no:xdist")
    # A worker whose collector died at once: what its crash report says is not ours.
    is_possible = "-n1" not in case.arguments or "crashes" not in end
    if is_possible and rng.random() < 0.5:
        number = rng.choice([signal.SIGSTOP, signal.SIGKILL])
        victim = rng.choice(["collector", "snapshot"])
        case.injected, case.delay = (number, victim), rng.choice([0.0, 0.05, 0.2, 0.5])
        case.causes.add(f"{'stop' if number == signal.SIGSTOP else 'kill'} {victim}")
    return case


def _add_limit(case: Case, kind: str, rng: random.Random) -> None:
    if kind == "f":
        case.ulimits["f"] = rng.choice([1, 8, 100, 3000, 10_000, 30_000, 100_000])
        case.causes.add("fsize")
    elif kind == "i":
        case.ulimits["i"] = rng.choice([0, 1, 3])
    elif kind == "n":
        case.ulimits["n"] = rng.choice([20, 32, 64])
        case.causes.add("descriptors")
    elif kind == "u":
        case.ulimits["u"] = rng.randrange(2, 9)
        case.causes.add("nproc")
    elif kind == "pids":
        case.pids = rng.randrange(2, 9)
        case.causes.add("pids")
    elif os.geteuid() == 0:
        case.disk = rng.choice(["4k", "64k", "1m", "8m", "40m", "70m", "120m"])
        case.causes.add("disk")


@contextlib.contextmanager
def applied(case: Case, folder: Path) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Prepare what a case needs; yields what its command begins with, and what it ends with."""
    with contextlib.ExitStack() as stack:
        more: tuple[str, ...] = ()
        prefix = case.prefix
        if case.disk:
            disk = stack.enter_context(small_disk(folder / "disk", case.disk))
            more = (f"--gencore-dir={disk}/out",)
        if case.pids:
            prefix = (*stack.enter_context(pids_cgroup(case.pids)), *prefix)
        yield prefix, more


class Injector:
    """Sends one signal to the first collector or snapshot below a folder, in a thread."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.victims: list[int] = []
        self._case = case
        self._folder = f"{folder}/"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Injector:  # noqa: PYI034 - Self came with Python 3.11
        if self._case.injected is not None:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        for pid in self.victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _work(self) -> None:
        assert self._case.injected is not None
        number, victim = self._case.injected
        while not self._done.is_set():
            for pid in self._find(victim):
                time.sleep(self._case.delay)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                    self.victims.append(pid)
                return
            time.sleep(0.002)

    def _find(self, victim: str) -> Iterator[int]:
        """Yield collectors, which have the archive as descriptor 4, or their snapshots."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if not os.readlink(entry / "fd/4").startswith(self._folder):  # noqa: PTH115 - as it is
                    continue
                if victim == "collector":
                    yield int(entry.name)
                else:
                    for child in (entry / f"task/{entry.name}/children").read_text().split():
                        yield int(child)


def untrue(text: str, causes: set[str]) -> list[str]:
    """Return what a log says about captures that is not known to be true of these causes."""
    pattern = r"^(?:failed: (?!\S+::)|(?:gencore: )?no core archive: |cannot complete the captures: )(.*)$"
    found = []
    for reason in re.findall(pattern, text, re.MULTILINE):
        allowed = [needed for said, needed in TRUE_IF.items() if re.match(said, reason)]
        if not any(needed & causes for needed in allowed):
            found.append(reason)
    return found
