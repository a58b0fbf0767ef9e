"""``gencore diagnose``, and what the documentation asks its JSON."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from capabilities import needs
from documents import check_document
from hostile_texts import MARKER
from made_archives import NAME, add_file, new_manifest, tar_archive

from pytest_gencore.archive.stacks_file import encode_stacks
from pytest_gencore.collector.stacks import model
from pytest_gencore.collector.stacks.stacks_json import make_stacks_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

PAGE = Path(__file__).parents[2] / "docs/reference/document.md"


def test_text(gencore: Callable[..., Result], real_archive: Path) -> None:
    """The test, and the project's frames of each thread; nothing that a terminal would obey."""
    result = gencore("diagnose", real_archive)

    assert result.exit_code == 0
    assert f"failure of test_moon.py::test_it, process {check_document(real_archive)['process']['pid']}" in (
        result.stdout
    )
    assert "in the_test_function" in result.stdout
    assert "in wait_for_the_moon" in result.stdout
    assert "\x1b" not in result.stdout


def test_several(gencore: Callable[..., Result], real_archive: Path, tmp_path: Path) -> None:
    """Each is a line; one that cannot be read is told, and the others are, too."""
    (tmp_path / "bad").write_bytes(b"no archive")
    result = gencore("diagnose", "--json", real_archive, tmp_path / "bad", real_archive)

    assert (result.exit_code, result.stderr) == (1, f"Error: {tmp_path / 'bad'}: not a gzip file\n")
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert documents == [check_document(real_archive)] * 2


def test_stacks_have_the_same_threads(gencore: Callable[..., Result], real_archive: Path) -> None:
    printed = json.loads(gencore("stacks", "--json", real_archive).stdout)

    assert printed["threads"] == check_document(real_archive)["threads"]
    assert {frame["function"] for thread in printed["threads"] for frame in thread["frames"]} >= {
        "the_test_function",
        "wait_for_the_moon",
    }


def test_hostile_texts(gencore: Callable[..., Result], tmp_path: Path) -> None:
    """No name begins a line of its own, nor anything that a terminal would obey."""
    frame = model.Frame(file=MARKER, line=1, function=MARKER, source=MARKER, locals=((MARKER, MARKER),))
    thread = model.PythonThread(MARKER, 9520, 1, (frame,), is_current=True)
    stacks = make_stacks_file("/", [thread], (), {}, unread=0)
    with tar_archive(tmp_path / "a.tar.gz") as tar:
        add_file(tar, f"{NAME}/stacks.json", encode_stacks(stacks).encode())

    lines = gencore("diagnose", tmp_path / "a.tar.gz").stdout.split("\n")

    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if "gotcha" in line]) == 3
    assert not [line for line in lines if line.startswith("second")]


def test_sealed(gencore: Callable[..., Result], tmp_path: Path) -> None:
    """Without a key only the short manifest is told."""
    manifest = new_manifest(libraries=[], sealed={"recipients": 1, "manifest": ""})
    with tar_archive(tmp_path / "a.tar.gz", manifest):
        pass
    text = gencore("diagnose", tmp_path / "a.tar.gz").stdout
    document = json.loads(gencore("diagnose", "--json", tmp_path / "a.tar.gz").stdout)

    assert "the archive is sealed: --identity FILE" in text
    assert document["archive"]["sealed"] is True


@needs("jq")
def test_examples_of_the_documentation(real_archive: Path) -> None:
    """All of them run, and print something but where there is no verdict or wait."""
    (plain, more) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)[:2]
    script = plain + more
    here = f"cd {shlex.quote(str(real_archive.parent.parent))}; shopt -s extglob"
    gencore = f'gencore() {{ {shlex.quote(sys.executable)} -m pytest_gencore "$@"; }}'
    script = script.replace(" core_*", " gencore-artifacts/core_*")
    run = subprocess.run(
        ["bash", "-ec", f"{here}\n{gencore}\nset -o pipefail\n{script}"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "test_moon" not in run.stdout
    assert "the_test_function" not in run.stdout
    lines = run.stdout.splitlines()
    assert lines[0] == "null"
    assert lines[-1] == "1: null"
    assert any(re.fullmatch(r"MainThread: /.+:\d+", line) for line in lines)
