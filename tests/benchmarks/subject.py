"""The process that the benchmark captures: it captures itself and measures its pause.

Started by ``measure``, with one argument, JSON. Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from pathlib import Path

from contents import populate
from methods import prepare
from results import Spec


class Ticker(threading.Thread):
    """Sees the pauses of the process: the longest time between two of its ticks."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest = 0.0
        self.cpu_s = 0.0
        self.running = threading.Event()
        self.ended = False

    def run(self) -> None:
        """Tick every half millisecond."""
        last = time.perf_counter()
        while not self.ended:
            time.sleep(0.0005)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            last = now
            self.cpu_s = time.thread_time()
            self.running.set()


def cpu_of(who: int) -> float:
    """Return the seconds of processor time of this process, or of its children."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Run one measurement."""
    given = json.loads(sys.argv[1])
    directory = Path(given["directory"])
    kept: list[object] = []
    capture = prepare(given["way"], directory, kept)
    sys.setswitchinterval(0.0005)  # so that the ticker sees pauses of the process, not of the interpreter
    kept += populate(Spec(**given["spec"]))
    ticker = Ticker()
    ticker.start()
    ticker.running.wait()
    ticker.longest = 0.0
    ticks_before, own_before = ticker.cpu_s, cpu_of(resource.RUSAGE_SELF)
    started = time.perf_counter()
    times = capture()
    own_after, ticks_after = cpu_of(resource.RUSAGE_SELF), ticker.cpu_s
    ticker.ended = True
    ticker.join()
    result = {
        "pause_s": ticker.longest,
        "core_s": times.core and times.core - started,
        "archive_s": times.archive and times.archive - started,
        "archive_bytes": times.archive_bytes,
        "own_cpu_s": max(0.0, own_after - own_before - (ticks_after - ticks_before)),
        "children_cpu_s": cpu_of(resource.RUSAGE_CHILDREN),
        "kept": len(kept),
    }
    print(json.dumps(result), flush=True)
    os._exit(0)  # the threads wait for ever


if __name__ == "__main__":
    main()
