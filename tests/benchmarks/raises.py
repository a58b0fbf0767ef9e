"""What an exception costs more while ``moment="raise"`` watches for the one that fails the test.

::

    python tests/benchmarks/raises.py    # with Python 3.12 or later

One test, in processes that take turns with the option and without it. It raises and catches an exception that
is none of those that are captured, in its own frame, and one that a C function raises. Shown are the medians.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROUNDS = 10
SUITE = """
import time

def raise_own():
    try:
        raise KeyError
    except KeyError:
        pass

def raise_in_c():
    try:
        {}[0]
    except KeyError:
        pass

def test_raise():
    for function in (raise_own, raise_in_c):
        taken = []
        for _ in range(100):
            started = time.thread_time_ns()
            for _ in range(1000):
                function()
            taken.append((time.thread_time_ns() - started) / 1000)
        print(f"{function.__name__}={sorted(taken)[25]}")
"""


def main() -> None:
    """Measure and print."""
    found: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pytest.ini").write_text("[pytest]\n")
        Path(folder, "test_suite.py").write_text(SUITE)
        for _ in range(ROUNDS):
            for watched in (False, True):
                for name, value in run(folder, *["--gencore-moment=raise"] * watched):
                    found.setdefault((name, watched), []).append(value)
    for name in dict.fromkeys(name for name, _ in found):
        before, after = median(found[name, False]), median(found[name, True])
        print(f"{name}: {before:.0f} ns, watched {after:.0f} ns: {after - before:.0f} ns more")


def run(folder: str, *options: str) -> list[tuple[str, float]]:
    """Return the nanoseconds of each way to raise, the lower quarter of a run."""
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "gencore", "--gencore-on-fail", *options]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    output = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return [(name, float(value)) for name, value in re.findall(r"(\w+)=([\d.]+)", output.stdout)]


if __name__ == "__main__":
    main()
