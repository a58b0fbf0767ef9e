"""Which source files go into an archive: the project's first, only regular ones, never too much."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.collector.stacks.model import Frame, PythonThread
from pytest_gencore.collector.stacks.sources import (
    SourceLimits,
    add_source_lines,
    find_traceback_files,
    gather_sources,
)

if TYPE_CHECKING:
    from pathlib import Path


def thread_of(*files: Path | str) -> PythonThread:
    """Return a thread with these files, innermost last."""
    return PythonThread("t", 1, 1, tuple(Frame(str(file), 1, "f") for file in files))


def make(path: Path, text: str = "pass\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_order_and_names(tmp_path: Path) -> None:
    root = tmp_path / "project"
    library = tmp_path / "lib" / "python3.11"
    files = [
        make(library / "threading.py"),
        make(root / ".venv" / "lib" / "python3.11" / "site-packages" / "dep.py"),
        make(tmp_path / "elsewhere" / "helper.py"),
        make(root / "src" / "a.py"),
        make(root / "test_a.py"),
        make(root / "ext.pyx"),
    ]
    found = gather_sources([thread_of(*files)], str(root), also=["src/more.py", "src/../test_a.py"])
    assert found.notices == []
    assert [path for path, _ in found.files] == [
        str(file).lstrip("/") for file in (files[5], files[4], files[3], files[2], files[1], files[0])
    ]
    make(root / "src" / "more.py")
    more = gather_sources([thread_of(*files)], str(root), also=["src/more.py"])
    assert more.files[3] == (str(root / "src" / "more.py").lstrip("/"), b"pass\n")


def test_what_is_no_source_is_left_out(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.py"
    os.mkfifo(fifo)
    device = tmp_path / "device.py"
    device.symlink_to("/dev/zero")
    folder = tmp_path / "folder.py"
    folder.mkdir()
    binary = tmp_path / "binary.py"
    binary.write_bytes(b"\0\1")
    secret = make(tmp_path / "secret.txt")
    linked = tmp_path / "linked.py"
    linked.symlink_to(make(tmp_path / "real.py"))
    names: list[Path | str] = [
        fifo,
        device,
        folder,
        binary,
        secret,
        linked,
        "<string>",
        "",
        "a\0.py",
        "../../../etc/x.py",
    ]
    found = gather_sources([thread_of(*names)], str(tmp_path))
    assert [path for path, _ in found.files] == [str(linked).lstrip("/")]
    assert sorted(found.notices) == [
        f"source {binary} is left out: no text",
        f"source {device} is left out: no regular file",
        f"source {fifo} is left out: no regular file",
        f"source {folder} is left out: no regular file",
    ]


def test_limits(tmp_path: Path) -> None:
    files = [make(tmp_path / f"f{number}.py", "x" * size) for number, size in enumerate((9, 6, 5, 2))]
    thread = thread_of(*reversed(files))
    found = gather_sources([thread], str(tmp_path), SourceLimits(file_size=8, total_size=10))
    assert [len(data) for _, data in found.files] == [6, 2]
    assert found.notices == [
        f"source {files[0]} is left out: more than 8 bytes",
        f"source {files[2]} is left out: more than 10 bytes in all",
    ]
    one = gather_sources([thread], str(tmp_path), SourceLimits(files=1))
    assert [len(data) for _, data in one.files] == [9]
    assert len(one.notices) == 3
    many = [make(tmp_path / f"many{number}.py") for number in range(50)]
    assert len(gather_sources([thread_of(*many)], "/", SourceLimits(files=0)).notices) == 21


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_named(tmp_path: Path) -> None:
    make(tmp_path / "a.py").chmod(0)
    assert "Permission denied" in gather_sources([thread_of(tmp_path / "a.py")], "/").notices[0]


def test_source_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_bytes("# coding: latin-1\n  x = 'é'\n".encode("latin-1"))
    odd = make(tmp_path / "odd.py", "# coding: nonsense\ny = 1\n")
    frames = (
        Frame("a.py", 2, "f"),
        Frame(str(odd), 2, "f"),
        Frame(str(odd), 9, "f"),
        Frame(str(odd), None, "f"),
        Frame("a.py", 1, "f", source="kept"),
        Frame("a.py", 1, "c", native=True),
        Frame("gone.py", 1, "f"),
    )
    (thread,) = add_source_lines([PythonThread("t", 1, 1, frames)], str(tmp_path))
    assert [frame.source for frame in thread.frames] == ["x = 'é'", "y = 1", "", "", "kept", "", ""]


def test_traceback_files() -> None:
    text = (
        "    def test_a():\n>       helper()\n\ntest_a.py:4: \n_ _ _ _\n\n"
        'src/my file.py:2: ValueError\ntest_a.py:9: in test\n  File "/lib/x.py", line 4, in f\nE   a.py: no\n'
    )
    assert find_traceback_files(text) == ["test_a.py", "src/my file.py", "/lib/x.py"]
