"""Many runners and one S3 server on loopback: is every archive there, once, and what does it take?

::

    python tests/benchmarks/fleet.py FOLDER                             # 8 runners, 1,000 captures of texts
    python tests/benchmarks/fleet.py FOLDER --mib=50 --runs=1 --captures=3   # of 50 MiB
    python tests/benchmarks/fleet.py FOLDER --list=10000 ARCHIVE...     # gencore list of 10,000 archives

All tests of the runners fail. The server is killed in the middle and started again, and what it has at the
end is compared with what the runners have. For the list the archives are hard links of those that are given.
What the server has sent is counted by the kernel: ``wchar`` of ``/proc/PID/io``, see proc(5).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
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
    from collections.abc import Mapping

TESTS = """
import os, pytest
KEPT = os.urandom({size})
@pytest.mark.parametrize("number", range({count}))
def test_bad(number):
    assert number < 0
"""
STORE = "s3://bucket/fleet"
KINDS = {"pytest_gencore.store.upload": "uploading programs", "pytest_gencore.collector.main": "collectors"}
AWAY_SECONDS = 5.0
LOOK_SECONDS = 0.25
MIB = 1 << 20
EPOCH = 1_790_000_000


class Watch:
    """Looks at the memory of collectors and uploading programs: the highest of each process."""

    def __init__(self) -> None:
        self.highest: dict[str, dict[int, int]] = {kind: {} for kind in KINDS.values()}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(LOOK_SECONDS):
            for process in psutil.process_iter(["cmdline"]):
                text = " ".join(process.info["cmdline"] or ())
                for mark, kind in KINDS.items():
                    if mark in text and "python" in text:
                        self._note(kind, process)

    def _note(self, kind: str, process: psutil.Process) -> None:
        try:
            size = process.memory_info().rss
        except psutil.Error:
            return
        known = self.highest[kind]
        known[process.pid] = max(size, known.get(process.pid, 0))


def run_pytest(home: Path, options: argparse.Namespace, environment: Mapping[str, str]) -> list[str]:
    """Run pytest so many times, as a runner does; return the last lines."""
    kind = "heap" if options.mib else "text"
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", "--gencore-on-fail"]
    command += [f"--gencore-type={kind}", f"--gencore-store={STORE}", "--gencore-libraries=none"]
    command += [f"--gencore-max-cores={options.captures}", "--gencore-max-size=1TiB"]
    ends = []
    for _ in range(options.runs):
        ended = subprocess.run(
            command, cwd=home, env={**os.environ, **environment}, capture_output=True, text=True, check=False
        )
        ends.append(ended.stdout.splitlines()[-1])
    return ends


def make_homes(folder: Path, options: argparse.Namespace) -> list[Path]:
    """Make the folders of the runners, each with its tests."""
    homes = [folder / f"runner-{number}" for number in range(options.runners)]
    for home in homes:
        home.mkdir()
        (home / "test_a.py").write_text(TESTS.format(size=options.mib * MIB, count=options.captures))
    return homes


def hash_files(folder: Path) -> dict[str, list[str]]:
    """Return the digests of all archives below a folder, by their names: one for each file of that name."""
    found: dict[str, list[str]] = {}
    for path in folder.rglob("core_*.tar.gz"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.setdefault(path.name, []).append(digest)
    return {name: sorted(digests) for name, digests in found.items()}


def count_archives(server: S3Server) -> int:
    return sum(key.endswith(".tar.gz") for key in server.find_objects())


def run_fleet(folder: Path, options: argparse.Namespace) -> bool:
    """Run it and print what came of it; tell whether all is there."""
    server = S3Server(folder / "served")
    watch = Watch()
    began = time.monotonic()
    homes = make_homes(folder, options)
    wanted = options.runners * options.runs * options.captures
    with concurrent.futures.ThreadPoolExecutor(options.runners) as pool:
        running = [pool.submit(run_pytest, home, options, server.environment) for home in homes]
        for part in range(1, options.restarts + 1):
            while count_archives(server) < wanted * part / (options.restarts + 1):
                time.sleep(LOOK_SECONDS)
            server.kill()
            time.sleep(AWAY_SECONDS)
            server.start()
        ends = {end.partition(" in ")[0] for runner in running for end in runner.result()}
    seconds = time.monotonic() - began
    watch.end()
    server.kill()
    there = hash_files(server.bucket)
    here: dict[str, list[str]] = {}
    for number in range(options.runners):
        for name, digests in hash_files(folder / f"runner-{number}").items():
            here[name] = sorted([*here.get(name, []), *digests])
    count, size = sum(map(len, there.values())), sum(server.find_objects().values())
    print(f"{options.runners} runners, {options.runs} runs each, {seconds:.0f} s; {ends}")
    print(f"archives here {sum(map(len, here.values()))}, in the store {count}, {size / MIB:.0f} MiB")
    print(f"the server was killed and started again: {options.restarts} times, {AWAY_SECONDS:g} s away")
    print(f"the same names and digests: {there == here}")
    for kind, highest in watch.highest.items():
        sizes = [size for _, size in sorted(highest.items())]
        half = len(sizes) // 2
        first, second = (max(part, default=0) / MIB for part in (sizes[:half], sizes[half:]))
        print(f"{kind}: {len(sizes)} seen; resident at most {first:.0f} MiB, in the second half {second:.0f}")
    return there == here and count == wanted


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
    parser.add_argument("--mib", type=int, default=0, help="size of an archive; 0: texts only")
    parser.add_argument("--restarts", type=int, default=1)
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
