"""Captures of the same trouble: ``list`` counts them, ``diff`` shows what is different between two."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from made_archives import NAME, add_file, new_manifest, tar_archive

from pytest_gencore.archive import read_archive
from pytest_gencore.archive.stacks_file import encode_stacks
from pytest_gencore.cli.diff import compare
from pytest_gencore.collector.stacks.model import Frame, PythonThread
from pytest_gencore.collector.stacks.stacks_json import make_stacks_file
from pytest_gencore.document.alike import without_numbers
from pytest_gencore.document.encode import make_document

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from pytest_gencore.document.model import Document

    Gencore = Callable[..., Result]


def write_capture(
    folder: Path, pid: int, line: int, *, verdict: str = "", evil: str = "", **changes: Any
) -> Path:
    """Write an archive of a process with two threads; ``line`` is the one that the test is at."""
    diagnosis = {"verdict": verdict or None, "kind": "waits" if verdict else None, "complete": True}
    manifest = new_manifest(pid=pid, threads=[], libraries=[], diagnosis=diagnosis, **changes)
    main = (Frame(file="test_three.py", line=line, function=f"test_one{evil}", locals=(("at", hex(pid)),)),)
    threads = [
        PythonThread("MainThread", pid, pid << 8, main, is_current=True),
        PythonThread(f"Thread-{pid} (work)", pid + 1, 2, (Frame("test_three.py", 30, "work"),)),
    ]
    path = folder / f"{NAME.replace('9520', str(pid))}.tar.gz"
    with tar_archive(path, manifest) as tar:
        stacks = make_stacks_file("/project", threads, [], {}, unread=0)
        add_file(tar, f"{NAME}/stacks.json", encode_stacks(stacks).encode())
    return path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "lock 'a' held by Thread-17 (test_a.py:21), which",
            "lock 'a' held by Thread-N (test_a.py:21), which",
        ),
        ("busy: 98 % CPU in sum(), test_gil.py:10", "busy: N % CPU in sum(), test_gil.py:10"),
        ("waits for child 4711: python, 2.5 s old", "waits for child N: python, N s old"),
        ("lock at 0x7f00beef", "lock at N"),
        ("waits for 127.0.0.1:5432, connected", "waits for N:N, connected"),
    ],
)
def test_numbers(text: str, shown: str) -> None:
    assert without_numbers(text) == shown


def test_list_counts_those_that_are_equal(gencore: Gencore, tmp_path: Path) -> None:
    """Process ids do not matter; line, verdict and trigger do."""
    wait = "waits for child {}, 2 s old"
    paths = [
        write_capture(tmp_path, 100, 7, verdict=wait.format(101)),
        write_capture(tmp_path, 200, 8, verdict=wait.format(201)),
        write_capture(tmp_path, 300, 7, verdict=wait.format(3001)),
        write_capture(tmp_path, 400, 7),
        write_capture(tmp_path, 500, 7, trigger={**new_manifest()["trigger"], "kind": "request"}),
        write_capture(tmp_path, 600, 7, nodeid="test_three.py::test_long_name"),
        write_capture(tmp_path, 70000, 8, verdict="busy: 7 % CPU"),
    ]

    result = gencore("list", tmp_path)

    *rows, first, second = result.output.splitlines()
    assert [row.split("  ")[-1] for row in rows] == [
        "[1]",
        "test_three.py::test_one (call)",
        "[1]",
        "[2]",
        "test_three.py::test_one (call)",
        "[2]",
        "test_three.py::test_one (call)",
    ]
    assert first == "[1] 2 of 7: the same stack: waits for child 101, 2 s old"
    assert second == "[2] 2 of 7: the same stack: failure at test_three.py:7 in test_one"
    assert len({row.index("  test_three.py") for row in rows}) == 1, "columns are aligned"
    groups = [row["group"] for row in json.loads(gencore("list", "--json", tmp_path).output)]
    assert groups == [1, None, 1, 2, None, 2, None]
    assert all(str(path) in row for path, row in zip(paths, rows, strict=True))


def test_list_of_archives_without_stacks(gencore: Gencore, tmp_path: Path) -> None:
    """Nothing is known of them: they are not called equal."""
    for pid in (1, 2):
        with tar_archive(tmp_path / f"{NAME.replace('9520', str(pid))}.tar.gz"):
            pass
    assert "the same stack" not in gencore("list", tmp_path).output


def test_diff(gencore: Gencore, tmp_path: Path) -> None:
    old = write_capture(tmp_path, 100, 7, verdict="waits for child 101", environment=["HOME", "CI=1"])
    same = write_capture(tmp_path, 200, 7, verdict="waits for child 3", environment=["CI=2", "HOME"])
    new = write_capture(tmp_path, 300, 9, environment=["HOME"])

    assert (gencore("diff", old, same).exit_code, gencore("diff", old, same).output) == (0, "")
    result = gencore("diff", old, new)
    assert result.exit_code == 1
    head, body = result.output.splitlines()[:2], result.output.splitlines()[2:]
    assert [line.split()[:2] for line in head] == [["---", str(old)], ["+++", str(new)]]
    assert body == [
        "@@ verdict @@",
        "-waits for child N",
        "+none",
        "@@ thread MainThread @@",
        " nothing is known to be waited for",
        "-test_three.py:7 in test_one",
        "+test_three.py:9 in test_one",
        "@@ names of variables @@",
        "-CI",
        " HOME",
    ]


def test_diff_of_what_only_one_has(tmp_path: Path) -> None:
    """A thread that is not in the other one is there as a whole; versions and tests are told."""
    document = make_document(read_archive(write_capture(tmp_path, 100, 7)))
    other: Document = replace(
        document,
        threads=document.threads[:1],
        versions=replace(document.versions, kernel="Linux 7"),
        test=replace(document.test, nodeid="test_b.py::test_two"),
    )
    lines = list(compare(document, other))
    assert lines == [
        "@@ test @@",
        "-test_three.py::test_one (call)",
        "+test_b.py::test_two (call)",
        "@@ thread Thread-N (work) @@",
        "-nothing is known to be waited for",
        "-test_three.py:30 in work",
        "@@ versions @@",
        " pytest-gencore 0.1.0",
        " CPython 3.11.7",
        "-Linux 6.1 x86_64",
        "+Linux 7 x86_64",
    ]
    swapped = [line.translate(str.maketrans("+-", "-+")) for line in compare(other, document)]
    assert {line for line in swapped if line[0] in "+-"} == {line for line in lines if line[0] in "+-"}


def test_hostile_text(gencore: Gencore, tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\r\n\u202e"
    old = write_capture(tmp_path, 100, 7, evil=evil, environment=[evil])
    new = write_capture(tmp_path, 200, 7, verdict=evil)
    write_capture(tmp_path, 300, 7, verdict=evil)
    for output in (gencore("diff", old, new).output, gencore("list", tmp_path).output):
        assert all(character.isprintable() or character == "\n" for character in output)
        assert "\\x1b]0;title\\x07" in output


def test_diff_of_what_cannot_be_read(gencore: Gencore, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"no archive")
    result = gencore("diff", write_capture(tmp_path, 100, 7), tmp_path / "bad")
    assert (result.exit_code, result.output) == (1, f"Error: {tmp_path / 'bad'}: not a gzip file\n")


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours(
    tmp_path: Path, run_program: Callable[..., subprocess.CompletedProcess[str]], no_color: str
) -> None:
    """On a terminal only, and not if the user wants none."""
    write_capture(tmp_path, 100, 7)
    in_terminal = (sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])")

    shown = run_program("list", tmp_path, prefix=in_terminal, NO_COLOR=no_color, TERM="xterm").stdout
    piped = run_program("list", tmp_path).stdout

    assert piped.count("  failure  ") == 1
    assert ("\x1b[33mfailure\x1b[0m" in shown) == (not no_color)
    assert shown.replace("\x1b[33m", "").replace("\x1b[0m", "").rstrip() == piped.rstrip()
