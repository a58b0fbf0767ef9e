"""``--gencore-env``: what of the environment stands in the manifest and the texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest, read_member
from projects import Project

from pytest_gencore.collector.source.environment import format_environment, show_environment

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
    import os
    os.environ |= {"LATER": "set by the test", "SHORT_TOKEN": "tiny", "DEPLOY_TOKEN": "a-secret-value"}
    os.environ["REPEATS"] = "it is a-secret-value"
    def test_it():
        assert 0
"""


@pytest.mark.parametrize("kind", ["names", "values", "none"])
def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("EARLIER", "set before")
    project = Project(tmp_path)
    project.write(test_a=SOURCE)
    options = [] if kind == "names" else [f"--gencore-env={kind}"]

    project.run("--gencore-on-fail", "--gencore-type=text", *options)

    archive = project.only_archive()
    shown = project.gencore("show", archive).out
    stacks = read_member(archive, "stacks.txt").decode()
    beside = archive.with_name(archive.name.replace(".tar.gz", ".txt")).read_text()
    entries = read_manifest(archive)["environment"]
    if kind == "none":
        assert not entries
        assert not [text for text in (shown, stacks, beside) if "EARLIER" in text or "Environment:" in text]
        return
    found = dict(entry.partition("=")[::2] for entry in entries)
    assert found.keys() >= {"EARLIER", "LATER", "SHORT_TOKEN", "DEPLOY_TOKEN", "PATH"}
    assert "\nvariables  " in shown
    for text in (shown, stacks, beside):
        assert "EARLIER" in text
        assert "tiny" not in text.partition("Environment:")[2]
        assert ("EARLIER=set before" in text) == (kind == "values")
    if kind == "values":
        assert found["LATER"] == "set by the test"
        assert re.fullmatch(r"it is [^a-z]*", found["REPEATS"]), "overwritten"
        assert found["SHORT_TOKEN"] == found["DEPLOY_TOKEN"] == ""
    else:
        assert not any(found.values())


def test_bounds() -> None:
    variables = [("LONG", "x" * 5000), *((f"NAME{number:04}", "y" * 100) for number in range(1000))]

    entries = show_environment(variables, "values", is_secret=lambda _: False)

    assert entries[0] == f"LONG={'x' * 1000}..."
    assert sum(map(len, entries)) <= 32 << 10
    assert len(entries) < 1000


def test_text() -> None:
    names = tuple(f"NAME{number}" for number in range(40))
    assert format_environment(()) == ""
    assert all(len(line) <= 100 for line in format_environment(names).splitlines())
    assert format_environment(("A=1\n2", "B")) == "\nEnvironment:\n  A=1\\n2\n  B\n"
