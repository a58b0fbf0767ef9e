"""The shell completes subcommands, options and files: click does that, if the shell asks as documented."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.shell_completion import BashComplete

from pytest_gencore.cli.program import program

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs/reference/cli.md"


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "d", {"demo", "diagnose", "diff", "debug"}),
        (["show"], "--f", {"--failure"}),
        (["prune", "x"], "--keep", {"--keep"}),
    ],
)
def test_completions(words: list[str], incomplete: str, expected: set[str]) -> None:
    complete = BashComplete(program, {}, "gencore", "_GENCORE_COMPLETE")
    assert {item.value for item in complete.get_completions(words, incomplete)} == expected


def test_files_are_left_to_the_shell() -> None:
    complete = BashComplete(program, {}, "gencore", "_GENCORE_COMPLETE")
    for words, kind in ((["show"], "file"), (["list"], "dir")):
        assert [item.type for item in complete.get_completions(words, "gen")] == [kind]


def test_documented_line_in_a_real_shell(
    tmp_path: Path, run_program: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The page's line for bash defines a function, which asks ``gencore`` and fills ``COMPREPLY``."""
    (line,) = re.findall(
        r'^eval "\$\(_GENCORE_COMPLETE=bash_source gencore\)"$', PAGE.read_text(), re.MULTILINE
    )
    program_file = tmp_path / "gencore"
    program_file.write_text(f'#!/bin/sh\nexec {sys.executable} -m pytest_gencore "$@"\n')
    program_file.chmod(0o700)
    script = f"""
        PATH={tmp_path}:$PATH
        {line}
        COMP_WORDS=(gencore unp) COMP_CWORD=1
        _gencore_completion gencore
        echo "${{COMPREPLY[@]}}"
    """
    done = run_program(prefix=("bash", "-c", script))
    assert (done.stdout, done.stderr) == ("unpack\n", "")
