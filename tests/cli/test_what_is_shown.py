"""What the command line reads of a manifest, real collectors write: a crash, a deadline, a failure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from lean_runs import LEAN

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Gencore = Callable[..., Result]

TESTS = {
    "crash": """
import ctypes
def test_it():
    ctypes.string_at(8)
""",
    "timeout": """
import time
def test_it():
    time.sleep(0.5)
""",
    "failure": """
class WrongError(Exception): pass
def test_it():
    raise WrongError("no")
""",
}
SHOWN = {
    "crash": "trigger    crash: SIGSEGV (SEGV_MAPERR) at address 0x8",
    "timeout": "trigger    timeout: after 0.2 s, set by gencore",
    "failure": "trigger    failure: test_it.WrongError",
}
FACTS: dict[str, dict[str, Any]] = {
    "crash": {
        "signal": "SIGSEGV",
        "signal_number": 11,
        "code": 1,
        "code_name": "SEGV_MAPERR",
        "address": "0x8",
    },
    "timeout": {"deadline_s": 0.2, "deadline_source": "gencore"},
    "failure": {"exception": "test_it.WrongError"},
}


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("kind", TESTS)
def test_trigger(pytester: pytest.Pytester, gencore: Gencore, kind: str) -> None:
    pytester.makepyfile(test_it=TESTS[kind])
    options = ["--gencore-timeout=200ms"] if kind == "timeout" else ["--gencore-on-fail"]
    pytester.runpytest_subprocess(*LEAN, *options, timeout=120)
    (archive,) = pytester.path.glob("gencore-artifacts/*.tar.gz")

    assert SHOWN[kind] in gencore("show", archive).output.splitlines()
    trigger = json.loads(gencore("show", "--json", archive).stdout)["manifest"]["trigger"]
    assert {name: value for name, value in trigger.items() if value is not None} == {
        "kind": kind,
        **FACTS[kind],
    }
    (row,) = json.loads(gencore("list", "--json", archive.parent).stdout)
    assert row["trigger"] == kind
