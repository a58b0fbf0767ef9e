"""Tests that leave functions patched for good: the run ends as it would without the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from projects import Project

if TYPE_CHECKING:
    from pathlib import Path

PATCHES = """
import {module}, os
def patched(*args, **kwargs):
    raise RuntimeError("patched")
def test_leaves_it():
    {module}.{name} = patched
"""


@pytest.mark.slow(rows=1)
@pytest.mark.field
@pytest.mark.parametrize(
    ("module", "name"),
    [("os", name) for name in ("open", "listdir", "scandir", "unlink", "rmdir", "stat", "close")]
    + [("json", "dumps"), ("json", "loads"), ("time", "monotonic"), ("pathlib.Path", "exists")],
)
def test_passes(tmp_path: Path, module: str, name: str) -> None:
    project = Project(tmp_path)
    project.write(test_a=PATCHES.format(module=module, name=name))
    others = ("-p", "no:cacheprovider", "-p", "no:asyncio")  # these end with an error of their own

    plain = project.run(*others)
    armed = project.run(*others, "--gencore-on-fail")

    assert (armed.status, armed.counts()) == (plain.status, plain.counts())
    assert (armed.out + armed.err).count("patched") == (plain.out + plain.err).count("patched")
    assert not list(tmp_path.glob("*gencore*"))
