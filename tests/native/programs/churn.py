"""CAPTURES DIRECTORY: capture while 8 Python threads start and join short-lived ones; print what happened."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from pytest_gencore import create_core


def main() -> None:
    captures, directory = int(sys.argv[1]), Path(sys.argv[2])
    stop = threading.Event()
    counts = [[0, 0] for _ in range(8)]

    def churn(count: list[int]) -> None:
        while not stop.is_set():
            thread = threading.Thread(target=lambda: count.__setitem__(1, count[1] + 1))
            thread.start()
            thread.join()
            count[0] += 1

    churners = [threading.Thread(target=churn, args=(count,)) for count in counts]
    for churner in churners:
        churner.start()
    made = 0
    for _ in range(captures):
        core = create_core(directory, method="memory", core_filter=0x1).result(60)
        with core.open("rb") as file:
            made += file.read(4) == b"\x7fELF"
        core.unlink()
    stop.set()
    for churner in churners:
        churner.join()
    healthy = all(started == ran > 0 for started, ran in counts)
    print(json.dumps({"made": made, "healthy": healthy, "threads": threading.active_count()}))


main()
