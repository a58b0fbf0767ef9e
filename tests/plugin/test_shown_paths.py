"""Paths in the log: relative to where pytest was started, as pytest shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projects import Project

from pytest_gencore.texts import Folders

if TYPE_CHECKING:
    from pathlib import Path

LOCKED = """
import threading
LEDGER = threading.Lock()
def book():
    with LEDGER:
        LEDGER.acquire()
"""
TESTS = """
import sys
sys.path.append("../src")
import books
def test_fails():
    assert 0
def test_hangs():
    books.book()
"""


def test_folders() -> None:
    inside = Folders("/project", "/project/tests")
    assert inside.shorten("/project/tests/test_a.py") == "test_a.py"
    assert inside.shorten("/project/src/a.py") == "../src/a.py"
    assert inside.shorten("/projects/a.py") == "/projects/a.py"
    outside = Folders("/project/tests", "/project")
    assert outside.shorten("/project/tests/test_a.py") == "tests/test_a.py"
    assert outside.shorten("/project/src/a.py") == "src/a.py"
    assert Folders("/project").shorten("/project/a.py") == "a.py"
    assert Folders().shorten("/project/a.py") == "/project/a.py"


def test_started_below_the_root_directory(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for name in ("src", "tests"):
        (tmp_path / name).mkdir()
    (tmp_path / "src/books.py").write_text(LOCKED)
    project = Project(tmp_path / "tests")
    project.write(test_a=TESTS)

    ended = project.run(
        *("--gencore-on-fail", "--gencore-type=text", "--gencore-timeout=1", "-v"),
        "-ogencore_exit_on_timeout=true",
    )

    assert "archives in ../gencore-artifacts" in ended.out
    assert (
        "gencore: deadlock: MainThread waits for lock 'LEDGER' held by itself (../src/books.py:5)"
        in ended.err
    )
    assert '  File "../src/books.py", line 6, in book' in ended.err
    assert '  File "test_a.py", line 8, in test_hangs' in ended.err
    assert "gencore: core archive: ../gencore-artifacts/core_" in ended.err
    assert str(tmp_path / "src") not in ended.out + ended.err
