"""The program that uploads: parts, a server that is killed and comes back, one that stays away."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

import pytest
from capabilities import needs
from cutting_proxy import CuttingProxy
from fsspec.config import conf
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile
from s3_server import S3Server

from pytest_gencore.store import upload as upload_module
from pytest_gencore.store.opening import CONNECTIONS, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PART = 5 << 20
FOLDER = "s3://bucket/x/run"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    """Return an S3 server with an empty bucket."""
    server = S3Server(tmp_path / "served")
    yield server
    server.kill()


def make_file(path: Path, size: int) -> Path:
    path.write_bytes(os.urandom(size))
    return path


def start(
    server: S3Server, *paths: Path, seconds: float, address: str | None = None
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest_gencore.store.upload", str(seconds), FOLDER, *map(str, paths)]
    return subprocess.Popen(
        command,
        env={**os.environ, **server.environment, **({"AWS_ENDPOINT_URL": address} if address else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_done(stream: IO[str] | None) -> int:
    assert stream is not None
    return int(stream.readline())


class Forgetful:
    """A store with parts that is restarted so many times while it takes the first one."""

    def __init__(self, restarts: int) -> None:
        self.restarts = restarts
        self.files: dict[str, bytes] = {}
        self.begun = 0

    def open(self, path: str, _mode: str, *, block_size: int) -> Any:
        assert block_size == PART
        self.begun += 1
        return ForgetfulFile(self, path)

    def invalidate_cache(self) -> None:
        """Nothing is cached."""

    def info(self, path: str) -> dict[str, int]:
        return {"size": len(self.files[path])}


class ForgetfulFile(AbstractBufferedFile):  # type: ignore[misc] # fsspec has no types
    """As s3fs's: what could not be written is written again by ``flush``."""

    def __init__(self, store: Forgetful, path: str) -> None:
        self.store, self.path, self.buffer, self.closed = store, path, io.BytesIO(), False
        self.errors: list[Exception] = []
        self.close_error: Exception | None = None
        if store.begun <= store.restarts:
            self.errors = [ConnectionResetError("cut"), FileNotFoundError("NoSuchUpload")]

    def write(self, data: bytes) -> int:
        self.buffer.write(data)
        self.flush()
        return len(data)

    def flush(self, force: bool = False) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def close(self) -> None:
        if self.close_error is not None:
            raise self.close_error
        self.store.files[self.path] = self.buffer.getvalue()
        self.closed = True

    def discard(self) -> None:
        """Nothing has come."""
        self.closed = True


@pytest.mark.parametrize(("restarts", "begun"), [(0, 1), (1, 2), (4, 5), (5, 5)])
def test_a_store_that_forgets_the_first_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: int, begun: int
) -> None:
    """No part is there yet, and the store says that it does not know the upload: it is begun anew."""
    store = Forgetful(restarts)
    monkeypatch.setattr(upload_module, "open_store", lambda folder: (store, "x"))
    monkeypatch.setattr(upload_module, "_PAUSE_SECONDS", 0.0)
    path = make_file(tmp_path / "file", 5)
    upload = upload_module.Upload(FOLDER, 60)
    if restarts < 5:
        upload.put(path)
        assert store.files == {"x/file": path.read_bytes()}
    else:
        with pytest.raises(FileNotFoundError):
            upload.put(path)
    assert store.begun == begun


class Failing(Forgetful):
    """A store in which no file can be closed."""

    def __init__(self, error: Exception) -> None:
        super().__init__(0)
        self.error = error
        self.opened: list[ForgetfulFile] = []

    def open(self, path: str, _mode: str, *, block_size: int) -> Any:
        file = super().open(path, _mode, block_size=block_size)
        file.close_error = self.error
        self.opened.append(file)
        return file


def upload_to_failing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, size: int
) -> Failing:
    """Upload a file that cannot be closed, with a patience of ten seconds that take no time."""
    store = Failing(error)
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        assert now[0] <= 10

    monkeypatch.setattr(upload_module, "open_store", lambda folder: (store, "x"))
    monkeypatch.setattr(upload_module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    with pytest.raises(type(error)) as raised:
        upload_module.Upload(FOLDER, 10).put(make_file(tmp_path / "file", size))
    assert raised.value is error
    return store


def test_a_refused_file_of_less_than_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it was there, so it is sent once."""
    assert upload_to_failing(tmp_path, monkeypatch, PermissionError("Forbidden"), 5).begun == 1


def test_a_file_that_was_given_up_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the store does not hear of it: else fsspec completes the file when its memory is freed."""

    def discard(_file: ForgetfulFile) -> None:
        raise ConnectionResetError("cut")

    monkeypatch.setattr(ForgetfulFile, "discard", discard)
    store = upload_to_failing(tmp_path, monkeypatch, PermissionError("Forbidden"), 5)
    assert all(file.closed for file in store.opened)


def test_what_is_sent_again_is_no_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store takes all parts, and then says that it has an error: the patience ends, or the beginnings."""
    assert upload_to_failing(tmp_path, monkeypatch, OSError("500"), PART).begun == 5
    monkeypatch.setattr(upload_module, "_BEGINNINGS", 100)
    assert 5 < upload_to_failing(tmp_path, monkeypatch, OSError("500"), PART).begun < 10


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_folder_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert upload_to_failing(tmp_path, monkeypatch, error, PART).begun == 1


def test_a_file_of_a_folder_that_was_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed and removed: fsspec's local files know no discarding."""
    upload = upload_module.Upload(f"file://{tmp_path}/store", 0)
    opened = []

    def open_and_fill(*args: Any, **options: Any) -> Any:
        opened.append(LocalFileSystem().open(*args, **options))
        monkeypatch.setattr(opened[-1], "write", fail, raising=False)
        return opened[-1]

    def fail(_data: bytes) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(upload._files, "open", open_and_fill)
    with pytest.raises(OSError, match="full"):
        upload.put(make_file(tmp_path / "file", 5))
    assert [file.closed for file in opened] == [True]
    assert not list((tmp_path / "store").iterdir())


def test_a_name_that_cannot_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = upload_module.Upload(f"file://{tmp_path}/store", 0)

    def fail(*_paths: str) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(upload._files, "mv", fail)
    with pytest.raises(PermissionError):
        upload.put(make_file(tmp_path / "file", 5))
    assert not list((tmp_path / "store").iterdir())


@needs("s3")
def test_settings_of_fsspec_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for botocore, too, of which we have some; where both have one it is the user's."""
    theirs = {"s3": {"addressing_style": "path"}, "read_timeout": 7}
    monkeypatch.setitem(conf, "s3", {"config_kwargs": theirs, "anon": True})
    files, _ = open_store(FOLDER)
    assert files.anon
    assert files.config_kwargs["s3"] == {"addressing_style": "path"}
    assert files.config_kwargs["read_timeout"] == 7
    assert files.config_kwargs["max_pool_connections"] == CONNECTIONS


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """It is said of them, and not of the store, with a status of its own."""
    (tmp_path / "link").symlink_to(make_file(tmp_path / "file", 5))
    (tmp_path / "folder").mkdir()
    for name, why in (
        ("missing", "{} cannot be read: No such file or directory"),
        ("link", "{} cannot be read: Too many levels of symbolic links"),
        ("folder", "not a regular file: {}"),
    ):
        path = tmp_path / name
        command = [
            sys.executable,
            "-m",
            "pytest_gencore.store.upload",
            "0",
            f"file://{tmp_path}/store",
            str(path),
        ]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (os.EX_NOINPUT, f"{why.format(path)}\n")


def test_two_upload_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As two captures do with the libraries of a run: nothing of the one is in the file of the other."""
    path = make_file(tmp_path / "file", 5)
    written: list[str] = []

    def note(path: str, *args: Any, **options: Any) -> Any:
        written.append(path)
        return LocalFileSystem().open(path, *args, **options)

    for _ in range(2):
        upload = upload_module.Upload(f"file://{tmp_path}/store", 0)
        monkeypatch.setattr(upload._files, "open", note)
        upload.put(path)
    assert len(set(written)) == 2
    assert [file.name for file in (tmp_path / "store").iterdir()] == [path.name]


@needs("s3")
@pytest.mark.slow
def test_parts(server: S3Server, tmp_path: Path) -> None:
    """Whatever the size is of the last one."""
    sizes = (0, 1, PART - 1, PART, PART + 1, 2 * PART + 5)
    paths = [make_file(tmp_path / f"file-{size}", size) for size in sizes]
    program = start(server, *paths, seconds=0)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    assert int(out.split()[-1]) == sum(sizes)
    served = server.bucket / "x" / "run"
    assert {path.name: path.read_bytes() for path in served.iterdir()} == {
        path.name: path.read_bytes() for path in paths
    }


@needs("s3")
@pytest.mark.slow
def test_a_server_that_comes_back(server: S3Server, tmp_path: Path) -> None:
    """This one forgets parts when it is killed: the file is sent anew, and is there once."""
    path = make_file(tmp_path / "file", 5 * PART)
    program = start(server, path, seconds=60)
    assert read_done(program.stdout) == PART
    server.kill()
    server.start()
    out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    assert int(out.split()[-1]) == 5 * PART
    assert server.find_objects() == {"x/run/file": 5 * PART}
    assert (server.bucket / "x/run/file").read_bytes() == path.read_bytes()


@needs("s3")
@pytest.mark.slow
def test_a_server_that_stays_away(server: S3Server, tmp_path: Path) -> None:
    path = make_file(tmp_path / "file", 3 * PART)
    server.kill()
    program = start(server, path, seconds=0)
    _, err = program.communicate(timeout=60)
    assert program.returncode == 1
    assert err.startswith("Could not connect to the endpoint URL")
    assert err.count("\n") == 1


@needs("s3")
@pytest.mark.slow
def test_a_connection_that_is_cut(server: S3Server, tmp_path: Path) -> None:
    """Only the part that was under way is sent again, also after what the library of S3 tries itself."""
    path = make_file(tmp_path / "file", 4 * PART + 3)
    proxy = CuttingProxy(server.port, cut_after=2 * PART + PART // 2)
    try:
        program = start(server, path, seconds=60, address=f"http://127.0.0.1:{proxy.port}")
        _, err = program.communicate(timeout=60)
    finally:
        proxy.close()
    assert (program.returncode, err, proxy.cuts) == (0, "", 1)
    assert (server.bucket / "x/run/file").read_bytes() == path.read_bytes()
    assert 4 * PART < proxy.passed < 5.5 * PART
