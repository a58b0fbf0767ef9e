"""What a process said before it died, told by the command line from the archive alone."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from made_archives import MANIFEST, NAME, add_file, new_manifest, tar_archive

from pytest_gencore.cli import stacks
from pytest_gencore.cli.readers import Printed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Gencore = Callable[..., Result]

CRASH = {
    **MANIFEST["trigger"],
    "kind": "crash",
    "signal": "SIGABRT",
    "abort_message": "free(): \x1b[31minvalid",
}
OUTPUT = ["last output on standard error:", "  terminate called", "    what():  boom"]
SAID = ["glibc: free(): \\x1b[31minvalid", *OUTPUT]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / f"{NAME}.tar.gz"
    manifest = new_manifest(trigger=CRASH, last_output=OUTPUT, libraries=[])
    with tar_archive(path, manifest) as tar:
        add_file(tar, f"{NAME}/stacks.txt", "\n".join(["SIGABRT", *SAID, "Thread 1"]).encode())
        add_file(tar, f"{NAME}/output.txt", b"standard error:\nboom\x1b[31m\n")
    return path


def test_show(gencore: Gencore, archive: Path) -> None:
    lines = gencore("show", archive).output.splitlines()

    first = lines.index("trigger    crash: SIGABRT") + 1
    assert [line.removeprefix(" " * 11) for line in lines[first : first + len(SAID)]] == SAID
    document = json.loads(gencore("show", "--json", archive).output)["manifest"]
    assert document["trigger"]["abort_message"] == CRASH["abort_message"]
    assert document["last_output"] == OUTPUT


def test_show_output(gencore: Gencore, archive: Path) -> None:
    assert gencore("show", "--output", archive).output == "standard error:\nboom\\x1b[31m\n"


def test_no_output(gencore: Gencore, tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.tar.gz"
    with tar_archive(path):
        pass

    result = gencore("show", "--output", path)

    assert result.exit_code == 1
    assert "the archive holds no output" in result.output
    assert "last output" not in gencore("show", path).output


@pytest.mark.parametrize("tool", ["pystack", "gdb", None])
def test_stacks(gencore: Gencore, archive: Path, monkeypatch: pytest.MonkeyPatch, tool: str | None) -> None:
    """Once, whatever reads them."""
    monkeypatch.setattr(stacks, "find_tool", lambda name: name if name == tool else None)
    monkeypatch.setattr(stacks, "unpacked", lambda opened, _: nullcontext(archive.parent))
    monkeypatch.setattr(stacks, "find_mismatches", lambda opened, folder: [])
    monkeypatch.setattr(stacks, f"_run_{tool or 'gdb'}", lambda *_: Printed(0, "Thread 1\n", ""))

    text = gencore("stacks", archive).stdout.splitlines()

    assert [line for line in text if line in SAID] == SAID
    assert text[-1] == "Thread 1"
