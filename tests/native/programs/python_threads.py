"""COUNT METHOD DIRECTORY: capture a process of COUNT Python threads; print a JSON object about it."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from pytest_gencore import collect_core


def main() -> None:
    count, method, directory = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    gate = threading.Event()
    arrived = threading.Semaphore(0)
    names = {os.getpid(): Path("/proc/self/comm").read_text().strip()}

    def wait(number: int) -> None:
        tid = threading.get_native_id()
        names[tid] = f"subject-{number}"
        Path(f"/proc/self/task/{tid}/comm").write_text(names[tid])
        arrived.release()
        gate.wait()

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(1, count)]
    for thread in threads:
        thread.start()
        arrived.acquire()
    future = collect_core(directory, method=method)  # type: ignore[arg-type] # the test's
    archive = future.result(100)
    gate.set()
    for thread in threads:
        thread.join()
    print(json.dumps({"archive": str(archive), "pid": os.getpid(), "names": names}))


main()
