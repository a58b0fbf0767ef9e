"""References that the extension gives away, on a Python that is older than the one whose headers it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "pytest_gencore/capture/csrc"
SINGLETONS = """
import sys
from pytest_gencore.capture import _native
def call():
    _native.set_test("null")
    _native.set_crash_standby(None)
    _native.deadline_fired(0)
    _native.is_crashing()
before = [sys.getrefcount(value) for value in (None, False, True)]
for _ in range(1000):
    call()
after = [sys.getrefcount(value) for value in (None, False, True)]
print(max(abs(a - b) for a, b in zip(before, after)))
"""


def test_what_is_returned_is_a_new_reference() -> None:
    """Headers of 3.12 and later take None for immortal; before it is not, and is freed in the end."""
    done = subprocess.run(
        [sys.executable, "-c", SINGLETONS], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) < 100


def test_no_macro_counts_on_immortal_objects() -> None:
    files = sorted(SOURCES.glob("*.c"))
    assert files
    assert [path.name for path in files if "Py_RETURN_" in path.read_text()] == []
