"""Threads that come and go while a process is captured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from counts import count
from native_builds import run_subject

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_all_captures_succeed(tmp_path: Path) -> None:
    number = count(10, thorough=25)
    report = json.loads(run_subject("churn.py", number, tmp_path / "out", timeout=120))
    assert report["made"] == number
    assert report["healthy"]
    assert list((tmp_path / "out").iterdir()) == [], "nothing is left behind"
