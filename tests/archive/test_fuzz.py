"""A thousand damaged archives, ten thousand in CI; GENCORE_FUZZ_SEED chooses others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import archive_fuzzer
import pytest
from counts import count
from subjects import search_path

if TYPE_CHECKING:
    from pathlib import Path

COUNT = count(1000, thorough=3_000)
SEED = int(os.environ.get("GENCORE_FUZZ_SEED", "1"))


@pytest.mark.slow
@pytest.mark.timeout(max(120, COUNT // 50))
def test_damaged_archives(tmp_path: Path) -> None:
    """Refused or unpacked, in one process, with at most 100 MiB more memory; nothing is written elsewhere."""
    command = [sys.executable, archive_fuzzer.__file__, str(tmp_path), str(COUNT), str(SEED)]
    environment = {**os.environ, "PYTHONPATH": f"{search_path()}"}

    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert done.returncode == 0, done.stderr[-4000:]
    answer = json.loads(done.stdout)
    assert sum(answer["results"].values()) == COUNT
    assert answer["growth_kib"] < 100 << 10
    assert answer["left"] == []
    reached = {result.partition(": ")[2] for result in answer["results"]}
    assert reached == {"not read", "not unpacked", "unpacked"}, "the damage reaches every stage"
