"""The files of the run's folder: one table, in the code, in the C part and on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from run_files import PAGE_PATH, find_table, format_table

import pytest_gencore
from pytest_gencore.run.files import CLAIM, CLOSED, DROP, FILES, QUOTA, STATE, RunFile, partial_name

RUNFILES_C = Path(pytest_gencore.__file__).parent / "capture/csrc/runfiles.c"


def test_the_page_has_the_table() -> None:
    assert find_table(PAGE_PATH.read_text()) == format_table(), "run python tests/support/run_files.py"


@pytest.mark.parametrize("kind", [kind for kind in FILES if "launcher" in kind.made_by + kind.read_by])
def test_the_launcher_has_the_same_names(kind: RunFile) -> None:
    """But for the claim, whose whole name it is given, and the folder, which is the name itself."""
    literals = set(re.findall(r'"([^"\n]*)"', RUNFILES_C.read_text()))
    fixed = re.sub("NAME|HASH|N$", "", kind.pattern).strip("/")
    assert kind is CLAIM or not fixed or fixed in literals
    assert partial_name("") in literals


def test_names() -> None:
    assert STATE.named("core_1") == "core_1.json"
    assert (QUOTA.named(3), QUOTA.named()) == ("slot-3", "slot-")
    assert (STATE.glob, CLAIM.glob, CLOSED.glob) == ("*.json", "claim-*", "closed")
    assert DROP.matches("drop-core_1")
    assert not DROP.matches("drop")
    assert CLOSED.matches("closed")
    assert not CLOSED.matches("closed2")
    assert STATE.matches("core_1.json")
    assert [kind.pattern for kind in FILES if not kind.is_mark] == [
        "NAME.json",
        "NAME.log",
        "NAME.txt",
        "NAME/",
    ]
