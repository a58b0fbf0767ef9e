"""Many runners and one S3 server on loopback: is every archive there, once, and what does it take?

::

    python tests/benchmarks/fleet.py FOLDER                             # 8 runners, 1,000 captures of texts
    python tests/benchmarks/fleet.py FOLDER --mib=40 --restarts=3       # of cores, 40 MiB of which are random
    python tests/benchmarks/fleet.py FOLDER --list=10000 ARCHIVE...     # gencore list of 10,000 archives

All tests of the runners fail. The server is killed in the middle and started again. After each run of pytest
its archives are compared with what the server has; then the local ones are removed, and the blocks of the
server's: 1,000 archives of 50 MiB would not fit twice. Name and size of an object stay, and at the end it
must still have no blocks: else it came twice.

For the list the archives are hard links of those that are given. What the server has sent is counted by the
kernel: ``wchar`` of ``/proc/PID/io``, see proc(5).
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import psutil
from s3_server import S3Server

if TYPE_CHECKING:
    from collections.abc import Sequence

TESTS = """
import os, pytest
KEPT = os.urandom({size})
@pytest.mark.parametrize("number", range({count}))
def test_bad(number):
    assert number < 0
"""
STORE = "s3://bucket/fleet"
KINDS = {"pytest_gencore.store.upload": "uploading programs", "pytest_gencore.collector.main": "collectors"}
PARTS = 10
"""The memory of processes is told of the first and of the last one of so many parts of the time."""
AWAY_SECONDS = 5.0
LOOK_SECONDS = 0.25
PAUSE_SECONDS = 2.0
MIB, GIB = 1 << 20, 1 << 30
SPARE = 9 * GIB
"""Bytes of the disk that are left free, whatever is not done for it."""
EPOCH = 1_790_000_000


class Watch:
    """Looks at collectors and uploading programs: the highest memory of each, by when it began."""

    def __init__(self, folder: Path) -> None:
        """Only at those that have, or were given, something of a folder: others may run here, too."""
        self._folder = str(folder)
        self.highest: dict[str, dict[tuple[float, int], int]] = {kind: {} for kind in KINDS.values()}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(LOOK_SECONDS):
            for process in psutil.process_iter(["cmdline", "create_time"]):
                text = " ".join(process.info["cmdline"] or ())
                for mark, kind in KINDS.items():
                    if mark in text and "python" in text:
                        self._look(kind, (process.info["create_time"], process.pid), text)

    def _look(self, kind: str, key: tuple[float, int], text: str) -> None:
        pid = key[1]
        known = self.highest[kind].get(key, 0)
        if known or self._folder in text or any(self._folder in path for path in list_open(pid)):
            self.highest[kind][key] = max(find_peak(pid), known)

    def describe(self) -> list[str]:
        """Return a line for each kind of process."""
        lines = []
        for kind, highest in self.highest.items():
            sizes = [size / MIB for _, size in sorted(highest.items())]
            part = max(1, len(sizes) // PARTS)
            ends = [max(some, default=0.0) for some in (sizes, sizes[:part], sizes[-part:])]
            whole, first, last = (f"{end:.0f}" for end in ends)
            about = f"at most {whole} MiB, of the first {part} {first}, of the last {last}"
            lines.append(f"{kind}: {len(sizes)} seen; {about}")
        return lines


def find_peak(pid: int) -> int:
    """Return the most memory, in bytes, that a process has had so far: ``VmHWM``, see proc(5)."""
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def list_open(pid: int) -> list[str]:
    """Return the paths of what a process has open, as far as they can be read."""
    try:
        return [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


class Fleet:
    """The runners and their server; what was compared so far."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._options = options
        self.server = S3Server(folder / "served")
        self.homes = [folder / f"runner-{number}" for number in range(options.runners)]
        for home in self.homes:
            home.mkdir()
            text = TESTS.format(size=options.mib * MIB, count=options.captures)
            (home / "test_a.py").write_text(text)
        self.sizes: list[int] = []
        """Of all that were the same here and there."""
        self.wrong: set[str] = set()
        self.ends: collections.Counter[str] = collections.Counter()
        self.has_room = True

    @property
    def wanted(self) -> int:
        return int(self._options.runners * self._options.runs * self._options.captures)

    def run(self, home: Path) -> None:
        """Run pytest so many times, as a runner does."""
        for _ in range(self._options.runs):
            while self._options.pause and self._options.pause.exists():
                time.sleep(PAUSE_SECONDS)
            if shutil.disk_usage(home).free < SPARE:
                self.has_room = False
                return
            self._run_pytest(home)
            for path in sorted(home.rglob("core_*.tar.gz")):
                self._compare(path)

    def _run_pytest(self, home: Path) -> None:
        options = self._options
        kind = "heap" if options.mib else "text"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--tb=no",
            "-p",
            "no:cacheprovider",
            "--gencore-on-fail",
        ]
        command += [f"--gencore-type={kind}", f"--gencore-store={STORE}", "--gencore-libraries=none"]
        command += [f"--gencore-max-cores={options.captures}", "--gencore-max-size=1TiB"]
        environment = {**os.environ, **self.server.environment}
        ended = subprocess.run(
            command, cwd=home, env=environment, capture_output=True, text=True, check=False
        )
        self.ends[ended.stdout.splitlines()[-1].partition(" in ")[0]] += 1
        self.wrong |= {line for line in ended.stdout.splitlines() if "not uploaded" in line}

    def _compare(self, path: Path) -> None:
        """Compare an archive with what the server has; then their blocks are not needed any more."""
        there = list(self.server.bucket.rglob(path.name))
        if [hash_file(copy) for copy in there] != [hash_file(path)]:
            self.wrong.add(f"{path}: {len(there)} in the store, or another one")
            return
        size = path.stat().st_size
        for end in (0, size):
            os.truncate(there[0], end)
        self.sizes.append(size)
        path.unlink()

    def check_store(self) -> None:
        """Look at what the server has at the end: each archive that was compared, once, and no other."""
        found = [path for path in self.server.bucket.rglob("*.tar.gz") if not path.name.startswith(".")]
        if sorted(path.stat().st_size for path in found) != sorted(self.sizes):
            self.wrong.add(f"{len(found)} archives are in the store, {len(self.sizes)} were compared")
        self.wrong |= {f"{path} came twice" for path in found if path.stat().st_blocks}


def hash_file(path: Path) -> str:
    """Return the digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


def run_fleet(folder: Path, options: argparse.Namespace) -> bool:
    """Run it and print what came of it; tell whether all is there."""
    fleet, watch = Fleet(folder, options), Watch(folder)
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.runners) as pool:
        running = [pool.submit(fleet.run, home) for home in fleet.homes]
        for part in range(1, options.restarts + 1):
            wait_for(fleet, fleet.wanted * part // (options.restarts + 1), running)
            fleet.server.kill()
            time.sleep(AWAY_SECONDS)
            fleet.server.start()
        for runner in running:
            runner.result()
    seconds = time.monotonic() - began
    watch.end()
    server_peak = find_peak(fleet.server.pid)
    fleet.server.kill()
    fleet.check_store()
    sizes = fleet.sizes
    print(f"{options.runners} runners, {options.runs} runs each, {seconds:.0f} s; {dict(fleet.ends)}")
    print(f"the same here and in the store, once: {len(sizes)} of {fleet.wanted}, {sum(sizes) / GIB:.1f} GiB")
    print(f"sizes from {min(sizes, default=0) / MIB:.2f} to {max(sizes, default=0) / MIB:.2f} MiB")
    print(f"the server was killed and started again: {options.restarts} times, {AWAY_SECONDS:g} s away")
    print(*watch.describe(), f"the server, since its last start: {server_peak / MIB:.0f} MiB", sep="\n")
    print(*sorted(fleet.wrong), *([] if fleet.has_room else ["the disk had no room for more"]), sep="\n")
    return not fleet.wrong and len(sizes) == fleet.wanted


def wait_for(fleet: Fleet, count: int, running: Sequence[concurrent.futures.Future[None]]) -> None:
    """Wait until so many archives are there, or all runners have ended."""
    while not all(runner.done() for runner in running):
        if sum(key.endswith(".tar.gz") for key in fleet.server.find_objects()) >= count:
            return
        time.sleep(LOOK_SECONDS)


def run_list(folder: Path, options: argparse.Namespace) -> None:
    """Measure ``gencore list`` of so many archives, hard links of a few."""
    sources = sorted(options.archives)
    server = S3Server(folder / "served-list")
    for number in range(options.list):
        stamp = time.strftime("%Y%m%d.%H%M%S", time.gmtime(EPOCH + number))
        run = server.bucket / "fleet" / f"run-{number // 100}"
        run.mkdir(parents=True, exist_ok=True)
        os.link(sources[number % len(sources)], run / f"core_{stamp}.{number}.001.tar.gz")
    process = psutil.Process(server.pid)
    before = process.io_counters()
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest_gencore", "list", STORE, "--json"]
    ended = subprocess.run(command, env={**os.environ, **server.environment}, capture_output=True, check=True)
    seconds = time.monotonic() - began
    sent = process.io_counters().write_chars - before.write_chars
    rows = json.loads(ended.stdout)
    groups = {row["group"] for row in rows}
    print(f"gencore list of {len(rows)} archives: {seconds:.1f} s, {sent / MIB:.1f} MiB sent by the server")
    mean = sum(row["size"] for row in rows) / len(rows)
    print(f"{sent / len(rows) / 1024:.1f} KiB of {mean / 1024:.0f} for each archive; groups: {groups}")
    server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="an empty one; what was made stays there")
    parser.add_argument("--runners", type=int, default=8)
    parser.add_argument("--runs", type=int, default=25, help="of pytest, by each runner, one after the other")
    parser.add_argument("--captures", type=int, default=5, help="of each run")
    parser.add_argument("--mib", type=int, default=0, help="random bytes in the core of each; 0: texts only")
    parser.add_argument("--restarts", type=int, default=1)
    parser.add_argument("--pause", type=Path, metavar="FILE", help="no run begins while there is such a file")
    parser.add_argument(
        "--list", type=int, default=0, metavar="N", help="measure the list of N archives instead"
    )
    parser.add_argument("archives", type=Path, nargs="*", help="for --list")
    options = parser.parse_intermixed_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.list:
        run_list(options.folder, options)
    elif not run_fleet(options.folder.absolute(), options):
        sys.exit("archives were lost, or are there twice")


if __name__ == "__main__":
    main()
