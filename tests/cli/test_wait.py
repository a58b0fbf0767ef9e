"""wait: what it waits for, prints and answers."""

from __future__ import annotations

import fcntl
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Gencore = Callable[..., Result]


def test_wait_when_nobody_is_at_work(gencore: Gencore, tmp_path: Path) -> None:
    (tmp_path / ".gencore-1-2-3").mkdir()
    (tmp_path / ".gencore-1-2-3" / "core_x.json").write_text("{}")

    assert gencore("wait", tmp_path / "none").exit_code == 0
    assert gencore("wait", tmp_path).exit_code == 0


def test_wait_gives_up(gencore: Gencore, tmp_path: Path) -> None:
    (tmp_path / ".gencore-1-2-3").mkdir()
    with (tmp_path / ".gencore-1-2-3" / "core_x.json").open("w") as state:
        fcntl.flock(state, fcntl.LOCK_EX)
        result = gencore("wait", tmp_path, "--timeout", "0.3s", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["working"] == 1
    assert "1 capture is still being collected\n1 not finished after 0.3 s" in result.stderr


AT_WORK = """
import os, sys
from subjects import *
captures = Captures(sys.argv[1])
ballast = os.urandom(60_000_000)
captures.take(method="memory")
report()
os._exit(0)
"""


def test_wait_for_a_collector(gencore: Gencore, tmp_path: Path) -> None:
    """Its test process is gone; when the wait is over, the archive is there."""
    from subjects import run_subject

    run_subject(AT_WORK, tmp_path / "out")

    assert gencore("wait", tmp_path / "out", "--timeout", "60").exit_code == 0

    assert gencore("list", tmp_path / "out").output.count(".tar.gz  ") == 1
    assert not list((tmp_path / "out").glob("*.partial"))
