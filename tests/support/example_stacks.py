"""SECONDS: capture each example of the documentation; print where its threads are, by the core.

That is the same on every machine: ``.ci/aarch64`` compares two. Tests that hang do so for SECONDS.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from gencore_archives import find_left
from log_samples import ROOT, SAMPLES
from wheels import clean_environment

_THREAD = re.compile(r"^Traceback for thread \d+ ", re.MULTILINE)
_FRAME = re.compile(r'^ +\(Python\) File ".*/(test_\w+)\.py", line (\d+), in (\w+)', re.MULTILINE)
PATIENCE = 1800
"""Seconds: an emulated processor is slow."""


def run(*command: str, folder: Path) -> str:
    """Return the output, whatever the status: tests fail, and processes die. No child of it is left."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**clean_environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(PATIENCE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        output.seek(0)
        return output.read()


def show(name: str, file: str, options: list[str]) -> None:
    """Print a line a thread that is in a function of the example, the outermost first."""
    examples = ROOT / "docs/examples"
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["-p", "gencore", "-p", "no:cacheprovider", "--gencore-on-fail", f"--gencore-dir={folder}"]
        output = run("pytest", *fixed, *options, file, folder=examples)
        archives = find_left(Path(folder))
        assert len(archives) == 1, output
        text = run("pytest_gencore", "stacks", "--native", str(archives[0]), folder=examples)
    threads = [_FRAME.findall(part) for part in _THREAD.split(text)[1:]]
    lines = sorted(
        " > ".join(f"{function}:{line}" for module, line, function in frames if f"{module}.py" == file)
        for frames in threads
    )
    print(f"{name}: {len(threads)} threads", *filter(None, lines), sep="\n    ", flush=True)
    assert any(lines), text


def main() -> None:
    """Print those of all examples."""
    for name, sample in SAMPLES.items():
        ends = [f"--gencore-timeout={sys.argv[1]}", "-o", "gencore_exit_on_timeout=true"]
        show(name, sample.file, ends if sample.options else [])


if __name__ == "__main__":
    main()
