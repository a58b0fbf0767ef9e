"""What a passing test costs more with the plugin armed, in one process: our plugins come and go.

::

    python tests/benchmarks/toggle.py                          # armed
    python tests/benchmarks/toggle.py --gencore-timeout=60     # and with a deadline

Blocks of tests run with our plugin objects registered and without them, in turn, so that whatever else the
machine does meets both alike. Shown are the quantiles of a test's processor time and their differences. The
lower ones are those of an undisturbed machine.
"""

from __future__ import annotations

import gc
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

TESTS = 8000
BLOCK = 25
SKIPPED = 3
"""First tests of a block, which find the caches as the other arrangement left them."""
QUANTILES = (0.1, 0.25, 0.5)


class Toggle:
    """A plugin that runs the tests in blocks and prints what they took."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run everything here."""
        manager = session.config.pluginmanager
        ours = [
            (plugin, name)
            for name, plugin in manager.list_name_plugin()
            if type(plugin).__module__.startswith("pytest_gencore.")
        ]
        times: dict[bool, list[int]] = {True: [], False: []}
        gc.disable()
        is_armed = True
        for start in range(0, len(session.items), BLOCK):
            items = session.items[start : start + BLOCK + 1]
            taken = [run(item, following) for item, following in itertools.pairwise(items)]
            times[is_armed] += taken[SKIPPED:]
            gc.collect(0)
            is_armed = not is_armed
            for plugin, name in ours:
                if is_armed:
                    manager.register(plugin, name)
                else:
                    manager.unregister(plugin)
        for plugin, name in ours:
            if not manager.has_plugin(name):
                manager.register(plugin, name)
        show(times[False], times[True])
        return True


def run(item: pytest.Item, following: pytest.Item) -> int:
    """Return the processor time of one test in nanoseconds."""
    started = time.thread_time_ns()
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    return time.thread_time_ns() - started


def show(without: list[int], armed: list[int]) -> None:
    """Print the quantiles."""
    print("\nquantile  without  armed  difference, us")
    for quantile in QUANTILES:
        low, high = (sorted(times)[int(len(times) * quantile)] / 1000 for times in (without, armed))
        print(f"{quantile:8.0%}  {low:7.1f}  {high:5.1f}  {high - low:10.1f}")


def main() -> None:
    """Make a suite and run it; arguments go to pytest."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        Path(folder, "pytest.ini").touch()
        Path(folder, "test_suite.py").write_text("\n\n".join(f"def test_{n}(): pass" for n in range(TESTS)))
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        options = ["-q", "-p", "no:cacheprovider", "-p", "gencore", "--gencore-on-fail", "--capture=sys"]
        status = pytest.main([*options, *sys.argv[1:], "--rootdir", folder, folder], plugins=[Toggle()])
    sys.exit(status)


if __name__ == "__main__":
    main()
