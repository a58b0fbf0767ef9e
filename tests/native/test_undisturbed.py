"""Captures change nothing that the process does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from native_builds import run_subject

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs("gcc")


@pytest.mark.slow
def test_a_process_captured_200_times_computes_the_same(tmp_path: Path, helpers: Path) -> None:
    expected = run_subject("busy.py", 0, helpers, tmp_path / "none")
    assert run_subject("busy.py", 200, helpers, tmp_path / "many", "real", timeout=120) == expected
    lines = expected.splitlines()
    assert len(lines) == 64
    assert all(
        line.endswith(" 0") for line in lines if line.startswith(("wait_for_semaphore", "sleep_until"))
    )
