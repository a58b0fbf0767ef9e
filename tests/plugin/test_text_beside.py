"""The text beside each archive: what people and tools read without unpacking."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_member
from projects import ARTIFACTS, QUICK, Project

if TYPE_CHECKING:
    from pathlib import Path


def find_text(project: Project) -> Path:
    (text,) = (project.folder / ARTIFACTS).glob("*.txt")
    return text


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("kind", ["full", "text"])
def test_failure(project: Project, kind: str) -> None:
    project.write(test_a="def test_x():\n    total = 41\n    assert total == 42\n")

    project.run(*QUICK, f"--gencore-type={kind}")

    archive, text = project.only_archive(), find_text(project)
    assert text.name == archive.name.replace("tar.gz", "txt")
    assert text.stat().st_mode & 0o777 == 0o600
    answer, failure, stacks = split(text)
    assert answer.startswith("failed: test_a.py::test_x, call, process ")
    assert "assert total == 42" in answer
    assert "E       assert 41 == 42" in failure
    assert stacks == read_member(archive, "stacks.txt").decode()


def split(text: Path) -> tuple[str, str, str]:
    answer, _, rest = text.read_text().partition("\nThe failure, as pytest shows it:\n")
    failure, _, stacks = rest.partition("\nAll stacks:\n")
    return answer, failure, stacks


def test_long_texts_are_cut(project: Project) -> None:
    functions = "".join(f"def wait_{number}_{'x' * 200}(): never.wait()\n" for number in range(200))
    project.write(
        test_a=f"import threading\nnever = threading.Event()\n{functions}"
        "def test_x():\n"
        "    for name, value in list(globals().items()):\n"
        "        if name[:5] == 'wait_': threading.Thread(target=value, daemon=True).start()\n"
        "    assert 0, 'long' * 20_000\n"
    )

    project.run(*QUICK)

    text = find_text(project)
    assert 90_000 < text.stat().st_size <= 100_000
    answer, failure, stacks = split(text)
    assert answer.startswith("failed: test_a.py::test_x")
    assert failure.endswith("long\n... cut at 50000 bytes\n")
    assert re.search(r"^\.\.\. cut at \d+ bytes$", stacks, re.MULTILINE)


def test_size_limit_leaves_the_text(project: Project) -> None:
    project.write(test_a="def test_x(): assert 0\n")

    ended = project.run(*QUICK, "--gencore-max-size=1kB")

    assert "no core archive: " in ended.out
    assert not project.find_archives()
    assert split(find_text(project))[0].startswith("failed: test_a.py::test_x")
