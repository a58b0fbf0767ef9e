"""A limit of a thousand million descriptors, as container runtimes set it: closing all would take minutes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from kernel import setting, settings_lock
from subjects import run_subject

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1_073_741_816

SUBJECT = """
import os, resource, sys
from subjects import Captures, refuse_calls, report
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
except ValueError as error:
    report(skip=str(error))
    os._exit(0)
if sys.argv[3] == "old kernel":
    refuse_calls({"close_range": 38})
captures = Captures(sys.argv[1])
captures.take(method="memory")
report(outcomes=captures.finish())
"""


@pytest.mark.kernel_settings
@pytest.mark.skipif(os.geteuid() != 0, reason="raises what only root may raise")
@pytest.mark.parametrize("kernel", ["new kernel", "old kernel"])
def test_descriptors_are_not_closed_one_by_one(tmp_path: Path, kernel: str) -> None:
    with settings_lock(exclusive=True), setting("fs/nr_open", str(LIMIT)):
        answer = run_subject(SUBJECT, tmp_path / "out", str(LIMIT), kernel, timeout=30)

    if "skip" in answer:
        pytest.skip(f"the limit cannot be raised here (CAP_SYS_RESOURCE?): {answer['skip']}")
    assert [outcome["state"] for outcome in answer["outcomes"]] == ["done"]
