"""Reading archives that are right."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from made_archives import (
    ALIAS,
    CONTENTS,
    CORE_SIZE,
    EXTENTS,
    FAILURE,
    LIBRARY,
    MANIFEST,
    NAME,
    STACKS,
    core_contents,
    new_manifest,
    tar_archive,
    write_archive,
)

import pytest_gencore
from pytest_gencore.archive import gzip_stream
from pytest_gencore.archive.reader import TEXT_LIMIT
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from pathlib import Path


def test_manifest_is_typed(tmp_path: Path) -> None:
    archive = pytest_gencore.read_archive(str(write_archive(tmp_path)))

    manifest = archive.manifest
    assert manifest.name == NAME
    assert manifest.trigger.kind == "failure"
    assert manifest.nodeid == "test_three.py::test_one"
    assert [(thread.tid, thread.native_registers) for thread in manifest.threads] == [
        (9520, True),
        (9521, False),
    ]
    assert manifest.threads[1].reason == "it did not answer in time"
    assert manifest.core is not None
    assert manifest.core.size == CORE_SIZE
    assert manifest.libraries[1].aliases == (ALIAS,)
    assert manifest.timings.collect_s == 0.4
    assert manifest.versions.python.version == "3.11.7"
    assert manifest.document == MANIFEST
    assert archive.size == archive.path.stat().st_size


def test_texts(tmp_path: Path) -> None:
    archive = pytest_gencore.read_archive(write_archive(tmp_path))

    assert archive.stacks() == STACKS
    assert archive.failure() == FAILURE
    assert archive.read_text("none.txt") is None


def test_text_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tar_archive(path) as tar:
        from made_archives import add_file

        add_file(tar, f"{NAME}/stacks.txt", b"x" * (TEXT_LIMIT + 7))

    text = pytest_gencore.read_archive(path).stacks()

    assert text is not None
    assert text.endswith("x\n[7 bytes more are in the archive]\n")


def test_unknown_fields_are_kept(tmp_path: Path) -> None:
    manifest = {**new_manifest(), "later": ["x"]}
    manifest["core"]["more"] = {"deep": [1]}

    archive = pytest_gencore.read_archive(write_archive(tmp_path, manifest))

    assert archive.manifest.document["core"]["more"] == {"deep": [1]}


def test_archives_of_schema_version_1(tmp_path: Path) -> None:
    """Their trigger was a word."""
    manifest = new_manifest(schema_version=1, trigger="crash")

    read = pytest_gencore.read_archive(write_archive(tmp_path, manifest)).manifest

    assert (read.trigger.kind, read.trigger.signal) == ("crash", None)


def test_fields_that_may_be_null(tmp_path: Path) -> None:
    empty = dict.fromkeys(("nodeid", "phase", "worker_id"))
    timings = dict.fromkeys(("stop_ms", "snapshot_ms", "pause_ms", "collect_s"))
    manifest = new_manifest(**empty, timings=timings, complete=False)

    read = pytest_gencore.read_archive(write_archive(tmp_path, manifest)).manifest

    assert (read.nodeid, read.timings.collect_s, read.complete) == (None, None, False)


def test_unpack(tmp_path: Path) -> None:
    archive = pytest_gencore.read_archive(write_archive(tmp_path))
    seen: list[tuple[int, int]] = []

    folder = archive.unpack(tmp_path / "new" / "out", lambda done, total: seen.append((done, total)))

    assert folder == tmp_path / "new" / "out" / NAME
    assert list(folder.parent.iterdir()) == [folder]
    core = (folder / "core").read_bytes()
    assert len(core) == CORE_SIZE
    assert b"".join(core[offset : offset + length] for offset, length in EXTENTS) == core_contents()
    assert not any(core[4096:16384])
    for name, data in CONTENTS.items():
        assert (folder / name.lstrip("/")).read_bytes() == data
    assert (folder / ALIAS.lstrip("/")).samefile(folder / LIBRARY.lstrip("/"))
    assert json.loads((folder / "gencore.json").read_bytes()) == MANIFEST
    assert seen[-1][0] >= seen[-1][1] == 12288 + sum(map(len, CONTENTS.values()))


def test_unpacked_files_are_private_and_not_executable(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = pytest_gencore.read_archive(write_archive(tmp_path)).unpack(tmp_path / "out")
    finally:
        os.umask(before)

    for path in [folder.parent, folder, *folder.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
        assert not path.is_symlink()


def fill_with_x(_offset: int, buffer: memoryview) -> None:
    buffer[:] = b"x" * len(buffer)


def test_holes_take_no_room(tmp_path: Path) -> None:
    manifest = new_manifest(libraries=[])
    manifest["core"] |= {"size": 1 << 40, "data_size": 4096}
    path = tmp_path / f"{NAME}.tar.gz"
    from pytest_gencore.archive.writer import ArchiveWriter

    with path.open("wb") as file, ArchiveWriter(file, NAME, 0) as writer:
        writer.reserve_manifest(json.dumps(manifest).encode(), 0)
        writer.add_sparse("core", 1 << 40, [(1 << 39, 4096)], fill_with_x)

    core = pytest_gencore.read_archive(path).unpack(tmp_path / "out") / "core"

    assert core.stat().st_size == 1 << 40
    assert core.stat().st_blocks * 512 < 1 << 20


def test_folder_exists(tmp_path: Path) -> None:
    archive = pytest_gencore.read_archive(write_archive(tmp_path))
    (tmp_path / "out" / NAME).mkdir(parents=True)

    with pytest.raises(ArchiveError, match="exists already"):
        archive.unpack(tmp_path / "out")

    assert list((tmp_path / "out").rglob("*")) == [tmp_path / "out" / NAME]


def test_not_enough_space(tmp_path: Path) -> None:
    manifest = new_manifest()
    manifest["core"] |= {"size": 1 << 60, "data_size": 1 << 59}
    archive = pytest_gencore.read_archive(write_archive(tmp_path, manifest))

    with pytest.raises(ArchiveError, match=r"has \d+ MiB free; \d+ MiB are needed .choose another directory"):
        archive.unpack(tmp_path / "out")

    assert not list((tmp_path / "out").iterdir())


KILLED = """
import os, sys
from pathlib import Path
import pytest_gencore
def stop(done, total):
    os.kill(os.getpid(), 9)
pytest_gencore.read_archive(sys.argv[1]).unpack(Path(sys.argv[2]), stop)
"""


def test_killed_while_unpacking(tmp_path: Path) -> None:
    """What is left is hidden and is not what a whole archive is called."""
    command = [sys.executable, "-c", KILLED, str(write_archive(tmp_path)), str(tmp_path / "out")]

    assert subprocess.run(command, check=False, timeout=30).returncode == -9

    (left,) = (tmp_path / "out").iterdir()
    assert left.name.startswith(f".{NAME}.unpacking-")


def test_manifest_of_a_large_archive_is_read_at_once(tmp_path: Path) -> None:
    path = write_archive(tmp_path)
    os.truncate(path, 2 << 30)  # whatever comes behind the manifest

    started = time.process_time()
    archive = pytest_gencore.read_archive(path)

    assert archive.size == 2 << 30
    assert time.process_time() - started < 0.05


IMPORTS = """
import sys
import pytest_gencore
assert "pytest_gencore.archive" not in sys.modules
pytest_gencore.read_archive(sys.argv[1])
bad = {"pytest", "psutil", "click", "tarfile", "pytest_gencore.capture", "pytest_gencore.collector"}
print(sorted(bad & set(sys.modules)))
"""


def test_reader_needs_only_the_standard_library(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IMPORTS, str(write_archive(tmp_path))]

    assert subprocess.run(command, check=True, capture_output=True, timeout=30).stdout == b"[]\n"


def test_an_archive_of_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A core of 64 GiB is 65,536 of them: only small ones are counted."""
    monkeypatch.setattr(gzip_stream, "_SMALL_MEMBERS_LIMIT", 10)
    path = tmp_path / "many.gz"
    path.write_bytes(b"".join(gzip.compress(bytes(64 << 10), 1) for _ in range(30)))
    with path.open("rb", buffering=0) as file:
        stream = gzip_stream.GzipStream(file)
        assert sum(len(piece) for piece in iter(lambda: stream.read(1 << 20), b"")) == 30 * (64 << 10)


def test_too_many_small_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzip_stream, "_SMALL_MEMBERS_LIMIT", 10)
    path = tmp_path / "many.gz"
    path.write_bytes(gzip.compress(b"x") * 11)
    with path.open("rb", buffering=0) as file:
        stream = gzip_stream.GzipStream(file)
        with pytest.raises(ArchiveError, match="too many gzip members"):
            list(iter(lambda: stream.read(10), b""))
