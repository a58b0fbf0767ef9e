"""What a core holds whatever ``coredump_filter`` says: the way to the libraries."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from oracles import unpack

if TYPE_CHECKING:
    from pathlib import Path

SUBJECT = """
import sys, pytest_gencore
print(pytest_gencore.collect_core(sys.argv[1], method="memory", core_filter=int(sys.argv[2], 0)).result())
"""


@pytest.mark.slow(rows=1)
@needs("gdb")
@pytest.mark.parametrize("core_filter", ["0x0", "0x1", "0x33"])
def test_debuggers_find_the_libraries(tmp_path: Path, core_filter: str) -> None:
    command = [sys.executable, "-c", SUBJECT, str(tmp_path), core_filter]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    folder = unpack(tmp_path / done.stdout.strip())
    answer = subprocess.run(
        ["gdb", "-batch", "-x", "open.gdb", "-ex", "info sharedlibrary"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    listed = [line.split()[-1] for line in answer.splitlines() if line.startswith("0x")]
    assert any("/libc.so.6" in name for name in listed)
    assert any("_native" in name for name in listed)
    assert all(name.startswith("./") for name in listed), "none from this machine"
