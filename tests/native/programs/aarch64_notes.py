"""METHOD DIRECTORY LIBRARY FUNCTION: capture nine threads, one of which is in a function of the library.

Then the kernel writes their core.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import threading
from pathlib import Path

from pytest_gencore import collect_core


def main() -> None:
    method, directory, library, function = sys.argv[1:]
    cells = (ctypes.c_int * 2)()
    gate, arrived, spinning = threading.Event(), threading.Semaphore(0), []

    def wait() -> None:
        arrived.release()
        gate.wait()

    def spin() -> None:
        spinning.append(threading.get_native_id())
        ctypes.CDLL(library)[function](cells)

    for target in (*[wait] * 7, spin):
        threading.Thread(target=target, daemon=True).start()
    for _ in range(7):
        arrived.acquire()
    while not cells[0]:
        os.sched_yield()
    archive = collect_core(directory, method=method).result(500)  # type: ignore[arg-type] # the test's
    print(json.dumps({"archive": str(archive), "spinning": spinning[0]}), flush=True)
    os.chdir(Path(directory).parent)
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    os.abort()


main()
