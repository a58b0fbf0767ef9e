"""Archives in a store, read there: ``list``, ``show``, ``stacks``, ``fetch`` and the others with a URL."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import needs
from fsspec.implementations.local import LocalFileSystem
from s3_server import S3Server
from subjects import search_path

from pytest_gencore.store import stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

    Gencore = Callable[..., Result]
    Program = Callable[..., subprocess.CompletedProcess[str]]

NAME = "core_20261121.225921.9520.{:03d}.tar.gz"


@pytest.fixture
def served(real_archive: Path, tmp_path: Path) -> Path:
    """Return a folder like that of a store with one archive of each of two runs, and what is no archive."""
    folder = tmp_path / "store"
    for number, run in enumerate(("run-b", "run-a"), start=1):
        (folder / run).mkdir(parents=True)
        shutil.copy(real_archive, folder / run / NAME.format(number))
        (folder / run / NAME.format(number)).with_suffix("").with_suffix(".txt").write_text("text")
    (folder / "run-a" / "other.tar.gz").write_bytes(b"")
    (folder / "run-a" / "libraries_20261121.225921.9520.002.tar.gz").write_bytes(b"shared")
    return folder


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Return what is read of files in a folder from here on, as fsspec is asked for it."""
    found: list[tuple[str, int, int]] = []
    read = LocalFileSystem.cat_file

    def note(self: Any, path: str, start: int, end: int) -> bytes:
        found.append((path, start, end))
        return bytes(read(self, path, start, end))

    monkeypatch.setattr(LocalFileSystem, "cat_file", note)
    return found


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Return an S3 server with an empty bucket, where botocore finds it."""
    server = S3Server(tmp_path / "served")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.kill()


def test_a_folder(
    gencore: Gencore, served: Path, real_archive: Path, ranges: list[tuple[str, int, int]]
) -> None:
    """The oldest comes first, whatever its run is called; each is read once, and only its beginning."""
    rows = json.loads(gencore("list", f"file://{served}", "--json").stdout)

    urls = [f"file://{served}/run-b/{NAME.format(1)}", f"file://{served}/run-a/{NAME.format(2)}"]
    assert [row.pop("path") for row in rows] == urls
    assert sorted(f"file://{path}" for path, _, _ in ranges) == sorted(urls)
    assert {(start, end) for _, start, end in ranges} == {(0, min(stored.FIRST, real_archive.stat().st_size))}
    (known,) = json.loads(gencore("list", real_archive.parent, "--json").stdout)
    del known["path"]
    assert rows == [known | {"group": 1}] * 2

    text = gencore("list", f"file://{served}/").stdout
    assert text.endswith("[1] 2 of 2: the same stack: failure at the_test_function\n") or "[1] 2 of 2" in text


def test_what_reads_an_archive(gencore: Gencore, served: Path) -> None:
    """It says of a URL what it says of the file."""
    path = served / "run-b" / NAME.format(1)
    for command in (("show",), ("show", "--failure"), ("diagnose",), ("stacks",)):
        there, here = gencore(*command, f"file://{path}"), gencore(*command, path)
        assert there.exit_code == here.exit_code == 0
        assert there.stdout.replace("file://", "") == here.stdout
    document = json.loads(gencore("diagnose", "--json", f"file://{path}").stdout)
    assert document["archive"]["path"] == f"file://{path}"


@pytest.mark.parametrize("has_text", [True, False])
def test_fetch(gencore: Gencore, served: Path, tmp_path: Path, *, has_text: bool) -> None:
    path, here = served / "run-a" / NAME.format(2), tmp_path / "here"
    text = path.with_name(NAME.format(2).replace("tar.gz", "txt"))
    if not has_text:
        text.unlink()
    shared = "libraries_20261121.225921.9520.002.tar.gz"
    names = [path.name, *([text.name] if has_text else []), shared]

    assert gencore("fetch", f"file://{path}", here).stdout == f"{here / path.name}\n"
    assert {copy.name: copy.read_bytes() for copy in here.iterdir()} == {
        name: path.with_name(name).read_bytes() for name in names
    }
    assert all(copy.stat().st_mode & 0o077 == 0 for copy in here.iterdir())
    (here / shared).write_bytes(b"another")
    again = gencore("fetch", f"file://{path}", here)
    assert again.exit_code == 1
    assert f"{here / shared} is there already, and is another file" in again.stderr
    assert (here / shared).read_bytes() == b"another"

    everything = gencore("fetch", f"file://{served}", tmp_path / "all")
    assert sorted(everything.stdout.split()) == [
        str(tmp_path / "all" / run / NAME.format(number)) for run, number in (("run-a", 2), ("run-b", 1))
    ]


def test_fetch_to_where_it_was_made(gencore: Gencore, served: Path) -> None:
    """There the text says what was uploaded since; nothing is overwritten, and nothing is wrong."""
    path = served / "run-a" / NAME.format(2)
    here = served.with_name("made")
    shutil.copytree(path.parent, here)
    text = here / path.name.replace("tar.gz", "txt")
    text.write_text(f"text\nuploaded: file://{path}\n")
    for _ in range(2):
        fetched = gencore("fetch", f"file://{path}", here)
        assert (fetched.exit_code, fetched.output) == (0, f"{here / path.name}\n")
    assert text.read_text() == f"text\nuploaded: file://{path}\n"


def test_fetch_of_one(gencore: Gencore, served: Path, tmp_path: Path) -> None:
    """What has the same name in folders below is another one."""
    path = served / "run-a" / NAME.format(2)
    shutil.copytree(path.parent, path.parent / "below")
    assert gencore("fetch", f"file://{path}", tmp_path / "here").stdout == f"{tmp_path}/here/{path.name}\n"
    assert not (tmp_path / "here" / "below").exists()


def test_a_folder_whose_name_is_not_safe(gencore: Gencore, served: Path, tmp_path: Path) -> None:
    (served / "run-a").rename(served / "run\x1b")
    fetched = gencore("fetch", f"file://{served}", tmp_path / "here")
    assert fetched.exit_code == 1
    assert fetched.stdout == f"{tmp_path}/here/run-b/{NAME.format(1)}\n"
    assert fetched.stderr == (
        f"file://{served}/run\\x1b/{NAME.format(2)} is left out: its folder has a name that is not safe\n"
    )


def check_wrong_kinds(gencore: Gencore, folder: str) -> None:
    """Check that a file is no empty folder, and a folder no empty file."""
    one = f"{folder}/{NAME.format(2)}"
    for command, url, why in (
        ("list", one, "it is a file, not a folder"),
        ("show", folder, "it is a folder; list its archives: gencore list URL"),
    ):
        ended = gencore(command, url)
        assert (ended.exit_code, ended.output) == (1, f"Error: {url}: {why}\n")


def test_wrong_kinds(gencore: Gencore, served: Path) -> None:
    check_wrong_kinds(gencore, f"file://{served}/run-a")


def test_what_is_not_there(gencore: Gencore, served: Path) -> None:
    for url, why in (
        (f"file://{served}/run-c", f"Error: file://{served}/run-c: it is not there: "),
        (f"file://{served}/{NAME.format(9)}", "it is not there: "),
    ):
        command = "show" if "core_" in url else "list"
        ended = gencore(command, url)
        assert ended.exit_code == 1
        assert why in ended.stderr
    ended = gencore("fetch", f"file://{served}/run-a/{NAME.format(9)}", served)
    assert ended.exit_code == 1
    assert "there is no archive" in ended.stderr
    for arguments in (("list", "s3://me:hunter2@host"), ("fetch", "s3://me:hunter2@host"), ("fetch", "x")):
        ended = gencore(*arguments)
        assert ended.exit_code == 2
        assert "hunter2" not in ended.stderr


def test_what_is_no_regular_file(run_program: Program, served: Path, tmp_path: Path) -> None:
    """It is not opened: a FIFO would wait for a writer, a link can lead anywhere."""
    fifo, link = served / "run-a" / NAME.format(3), served / "run-a" / NAME.format(4)
    os.mkfifo(fifo)
    link.symlink_to(served / "run-a" / NAME.format(2))
    rows = json.loads(run_program("list", f"file://{served}", "--json").stdout)
    assert [row["path"].rpartition("/")[2] for row in rows] == [NAME.format(1), NAME.format(2)]
    assert run_program("fetch", f"file://{served}", tmp_path / "here").stdout.count("\n") == 2
    for path in (fifo, link):
        ended = run_program("show", f"file://{path}")
        assert (ended.returncode, ended.stderr) == (1, f"Error: file://{path}: not a regular file\n")


@pytest.fixture
def closed(served: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in the store that cannot be read, as one of another user."""
    folder = served / "run-b"
    read = LocalFileSystem.ls

    def ls(self: Any, path: str, **options: Any) -> Any:
        if path == str(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return read(self, path, **options)

    monkeypatch.setattr(LocalFileSystem, "ls", ls)
    return folder


def test_a_folder_that_cannot_be_read(gencore: Gencore, closed: Path, tmp_path: Path) -> None:
    """It is named, and what is in the others is there all the same."""
    store, open_one = closed.parent, closed.parent / "run-a"
    why = f"file://{closed} cannot be read: access is denied: [Errno 13] Permission denied: '{closed}'\n"
    listed = gencore("list", f"file://{store}", "--json")
    assert (listed.exit_code, listed.stderr) == (1, why)
    (row,) = json.loads(listed.stdout)
    assert row["path"] == f"file://{open_one}/{NAME.format(2)}"
    fetched = gencore("fetch", f"file://{store}", tmp_path / "here")
    assert (fetched.exit_code, fetched.stderr) == (1, why)
    assert fetched.stdout == f"{tmp_path}/here/run-a/{NAME.format(2)}\n"

    shutil.rmtree(open_one)
    listed, fetched = gencore("list", f"file://{store}"), gencore("fetch", f"file://{store}", tmp_path)
    assert (listed.exit_code, listed.output) == (1, f"{why}no archives in what can be read\n")
    assert (fetched.exit_code, fetched.output) == (1, why)
    assert gencore("list", f"file://{closed}").exit_code == 1


SILENT = """
import sys, threading
from fsspec.implementations.local import LocalFileSystem
from pytest_gencore.cli.program import run
def cat_file(*arguments, **named):
    print("asked", flush=True)
    threading.Event().wait()
LocalFileSystem.cat_file = cat_file
run()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_list_that_is_ended_while_it_waits(served: Path, number: int, status: int) -> None:
    """It does not wait until the store has answered."""
    with subprocess.Popen(
        [sys.executable, "-c", SILENT, "list", f"file://{served}"],
        env={**os.environ, "PYTHONPATH": search_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "asked\n"
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (status, "Aborted!\n")


@needs("s3")
@pytest.mark.slow
def test_s3(gencore: Gencore, served: Path, server: S3Server, tmp_path: Path) -> None:
    """A server that we did not write gives what was put there."""
    shutil.copytree(served, server.bucket / "team")
    listed = gencore("list", "s3://bucket/team").stdout
    assert listed.count("s3://bucket/team/run-") == 2
    assert "[1] 2 of 2" in listed
    url = f"s3://bucket/team/run-b/{NAME.format(1)}"
    assert "the_test_function" in gencore("stacks", url).stdout
    assert gencore("fetch", url, tmp_path / "here").exit_code == 0
    name = NAME.format(1)
    assert (tmp_path / "here" / name).read_bytes() == (served / "run-b" / name).read_bytes()
    check_wrong_kinds(gencore, "s3://bucket/team/run-a")
    assert gencore("list", "s3://bucket/empty").stdout == "no archives in s3://bucket/empty\n"
    server.kill()
    gone = gencore("list", "s3://bucket/team")
    assert gone.exit_code == 1
    assert gone.stderr.startswith("Error: s3://bucket/team: Could not connect to the endpoint URL")
