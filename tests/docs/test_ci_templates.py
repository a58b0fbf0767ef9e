"""The lines that templates for CI systems give to a shell do what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lean_runs import base_arguments
from log_samples import ROOT
from projects import SUPPORT, is_foreign

if TYPE_CHECKING:
    from projects import Project

TEMPLATES = {
    "github": (".github/actions/capture/action.yml", r"^      run: (eval .*)$", "kept here"),
    "gitlab": ("docs/ci-templates/gitlab.yml", r"^    - (python -m pytest .*)$", "gencore-artifacts"),
    "jenkins": ("docs/ci-templates/capturedTests.groovy", r"sh '(python -m pytest .*)'", "gencore-artifacts"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_pytest_is_run(project: Project, name: str) -> None:
    path, pattern, directory = TEMPLATES[name]
    (line,) = re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE)
    project.write(test_a="def test_bad(): assert 0\ndef test_ok(): pass")
    options = " ".join(["-q", *base_arguments(("--gencore-on-fail",)), "-k test_bad"])
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not is_foreign(name)} | {
        "PATH": programs,
        "PYTHONPATH": str(SUPPORT),
        "GENCORE_COMMAND": "python -m pytest",
        "GENCORE_OPTIONS": f"{options} -o 'addopts=-m \"not other\"'" if name == "github" else options,
        "GENCORE_DIRECTORY": "kept here",
    }
    ended = subprocess.run(
        ["bash", "-e", "-c", line],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 failed, 1 deselected" in ended.stdout
    assert len(list((project.folder / directory).glob("core_*.tar.gz"))) == 1


def test_action_has_the_inputs_of_its_page() -> None:
    action = (ROOT / TEMPLATES["github"][0]).read_text()
    head = action.partition("inputs:\n")[2].partition("runs:\n")[0]
    inputs = re.findall(r"^  ([\w-]+):\n    description: .+\n    default: (.+)$", head, re.MULTILINE)
    page = (ROOT / "docs/how-to/attach-in-ci.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| [^|]+ \| (.+) \|$", page, re.MULTILINE)
    shown = [(name, default.strip("`").replace("none", '""')) for name, default in rows]
    assert shown == [(name, default if default == '""' else default.strip('"')) for name, default in inputs]
