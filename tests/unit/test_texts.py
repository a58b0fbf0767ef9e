"""Lines of a log: nothing in them moves a terminal or is a command to whoever reads the log."""

from __future__ import annotations

import pytest

from pytest_gencore.texts import command_to_open, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::evil", r"\x3a:error::evil"),
        ("  ::add-mask::x", r"  \x3a:add-mask::x"),
        ("test_a.py::test_b", "test_a.py::test_b"),
        ("now ##[error]", r"now #\x23[error]"),
        ("##vso[task.complete result=Failed]", r"#\x23vso[task.complete result=Failed]"),
        ("##teamcity[buildStop]", r"#\x23teamcity[buildStop]"),
        ("## a heading", "## a heading"),
        ("\x1b[31m", r"\x1b[31m"),
    ],
)
def test_no_commands(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_command_to_open() -> None:
    assert command_to_open("a b.tar.gz", has_core=True, is_sealed=False) == "gencore debug 'a b.tar.gz'"
    assert command_to_open("a.tar.gz", has_core=False, is_sealed=True) == (
        "gencore stacks --identity FILE a.tar.gz"
    )
