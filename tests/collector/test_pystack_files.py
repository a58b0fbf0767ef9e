"""Which files pystack opens when a capture is made: those that code is named after, but regular ones only."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from capabilities import find_python_program, needs

from pytest_gencore.collector.stacks import pystack_reader

if TYPE_CHECKING:
    from pathlib import Path

PROCESS = """
import sys, threading
done = threading.Lock()
done.acquire()
for number, name in enumerate(sys.argv[1:]):
    names, ready = {"done": done}, threading.Event()
    source = "\\n" * 3 + f"def wait_{number}(ready):\\n    ready.set(); done.acquire()\\n"
    exec(compile(source, name, "exec"), names)
    threading.Thread(target=names[f"wait_{number}"], args=(ready,), daemon=True).start()
    ready.wait()
print("ready", flush=True)
done.acquire()
"""


@needs("pystack")
@pytest.mark.timeout(60)
def test_pystack_reads_regular_files_only(tmp_path: Path) -> None:
    """A test may name its code after a device or a FIFO: pystack ends, and soon."""
    source, large, fifo = (tmp_path / name for name in ("source.py", "large.py", "fifo.py"))
    source.write_text("# this line\n" * 10)
    large.write_text("# large\n" * 10)
    os.truncate(large, 2 << 30)
    os.mkfifo(fifo)
    pystack = find_python_program("pystack")
    assert pystack is not None
    names = [str(source), str(large), str(fifo), "/dev/zero", "/proc/self/environ"]
    command = [sys.executable, "-c", PROCESS, *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            output = pystack_reader.read_snapshot_stacks(pystack, process.pid)
        finally:
            process.kill()

    if "Operation not permitted" in output.reason:
        pytest.skip("other processes cannot be read here")
    assert output.reason == ""
    for number, name in enumerate(names):
        assert f'File "{name}", line 5, in wait_{number}\n' in output.text
    assert output.text.count("# this line\n") == 1
    assert "# large" not in output.text
    assert "PATH=" not in output.text
