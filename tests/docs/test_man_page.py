"""The man page has all help texts, and is right by groff."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from capabilities import needs
from oracles import run_tool

from pytest_gencore.cli.program import program

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("man") / "gencore.1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "docs/man.py")]
    path.write_bytes(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    return path


@needs("groff")
def test_every_command_and_option(page: Path) -> None:
    """As a terminal shows it: without a word of roff, and what groff warns of fails."""
    assert run_tool("groff", "-man", "-ww", "-z", page) == "", "no warning"
    shown = run_tool("groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=200n", page)
    text = " ".join(shown.split())

    with click.Context(program) as context:
        for name in program.list_commands(context):
            command = program.get_command(context, name)
            assert command is not None
            assert f"gencore {name}" in text
            assert " ".join((command.help or "").split()[:12]) in text
            for parameter in command.params:
                assert all(option in text for option in parameter.opts if option.startswith("-"))
    assert not re.search(r"^\.|\\[&e-]", shown, re.MULTILINE)
