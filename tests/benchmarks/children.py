"""What a child process of a test costs more while the plugin is armed: Python, and a program that is not.

::

    python tests/benchmarks/children.py          # 2,000 children of each kind
    python tests/benchmarks/children.py 300

Children start in turn with the environment of the armed process and with that of before, so that whatever
else the machine does meets both alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEST = """
import json, os, subprocess, sys, time

def once(command, environment):
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True)
    return time.perf_counter() - start

def test_children():
    before = dict(os.environ)
    del before["PYTHONPATH"]
    taken = {}
    for name, command in {"Python": [sys.executable, "-c", "pass"], "true": ["true"]}.items():
        times = [[once(command, environment) for environment in (os.environ, before)] for _ in range(COUNT)]
        taken[name] = times
    json.dump(taken, open("times.json", "w"))
"""


def main() -> None:
    """Measure and print."""

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_it.py").write_text(TEST.replace("COUNT", str(count)))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--gencore-on-fail"]
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        taken = json.loads((folder / "times.json").read_text())
    print(f"{count} of each, in {seconds:.0f} s; milliseconds")
    for name, times in taken.items():
        armed, before = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
        more = statistics.median(one - other for one, other in times) * 1e3
        print(f"{name:7} armed {armed:.2f}  else {before:.2f}  median of the differences {more:+.2f}")


if __name__ == "__main__":
    main()
