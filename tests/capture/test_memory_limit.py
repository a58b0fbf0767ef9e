"""In a container with little more memory than the tests need: the test run survives every capture."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import find_left
from memory_cgroup import memory_cgroup

from pytest_gencore.machine.memory import read_headroom

if TYPE_CHECKING:
    from pathlib import Path

PROCESS = 600 << 20
CAPTURES = 3

SUBJECT = """
    import os, sys, threading
    with open(sys.argv[1] + "/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    import mmap
    memory = mmap.mmap(-1, {size}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, {size}, 1 << 20):
        memory[at:at + (1 << 20)] = os.urandom(4096) * 256
    stop = threading.Event()
    def change_everything():
        while not stop.is_set():
            for at in range(0, {size}, 4096):
                memory[at] = (memory[at] + 1) % 256
    threading.Thread(target=change_everything).start()
    from pytest_gencore.errors import GencoreError
    import pytest_gencore
    for _ in range({captures}):
        try:
            future = pytest_gencore.collect_core(sys.argv[2], method="memory", core_filter=0x11)
            print("archive", future.result())
        except GencoreError as error:
            print("refused", error)
    stop.set()
    print("alive")
"""


@pytest.mark.slow
@needs("memory_cgroup")
@pytest.mark.parametrize("factor", [1.3, 1.1])
def test_the_captured_process_survives(tmp_path: Path, factor: float) -> None:
    program = tmp_path / "subject.py"
    program.write_text(textwrap.dedent(SUBJECT).format(size=PROCESS, captures=CAPTURES))
    with memory_cgroup(int(PROCESS * factor)) as group:
        done = subprocess.run(
            [sys.executable, program, group, tmp_path / "out"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "alive"
    assert len(lines) == CAPTURES + 1
    assert [path for path in find_left(tmp_path / "out") if not path.name.endswith(".tar.gz")] == []
    if factor >= 1.3:
        assert all(line.startswith("archive") for line in lines[:-1]), lines


@needs("memory_cgroup")
def test_the_limit_of_the_cgroup_is_seen(tmp_path: Path) -> None:
    code = (
        "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()));"
        "from pytest_gencore.machine.memory import read_headroom; print(read_headroom())"
    )
    with memory_cgroup(200 << 20) as group:
        output = subprocess.run(
            [sys.executable, "-c", code, group], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    headroom = read_headroom()
    assert 100 << 20 < int(output) <= 200 << 20
    assert headroom is None or headroom > int(output)
