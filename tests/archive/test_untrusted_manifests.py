"""Files and manifests of strangers: refused with a reason, before anything is unpacked."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from made_archives import (
    MANIFEST,
    NAME,
    add_file,
    new_manifest,
)

from pytest_gencore.archive import read_archive
from pytest_gencore.archive.json_text import JSON_LIMIT
from pytest_gencore.errors import ArchiveError


def refusal_of_reading(path: Path) -> str:
    with pytest.raises(ArchiveError) as caught:
        read_archive(path)
    return str(caught.value)


PLAIN_TAR = tarfile.TarInfo("x/gencore.json").tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"PK\3\4 a zip file", "not a gzip file, but a zip file: unzip it first"),
        (PLAIN_TAR, "not a gzip file, but a tar file that is not compressed: compress it with gzip first"),
        (b"PLAIN", "not a gzip file"),
        (gzip.compress(b"text"), "truncated"),
        (gzip.compress(b"text" * 1000), "not a tar file"),
        (gzip.compress(bytes(10240)), "the first member is not a manifest"),
        (b"\x1f\x8b\x08", "truncated"),
    ],
    ids=["empty", "zip", "tar", "other", "short", "no tar", "zeros", "cut"],  # in gzip data is the time
)
def test_no_archive(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a").write_bytes(data)

    assert reason in refusal_of_reading(tmp_path / "a")


def test_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")

    assert refusal_of_reading(tmp_path / "a") == "not a regular file"


@pytest.mark.parametrize("path", ["/dev/zero", "/"])
def test_device_or_folder(path: str) -> None:
    assert refusal_of_reading(Path(path)) == "not a regular file"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_archive(tmp_path / "a")


def made(tmp_path: Path, text: bytes, *, name: str = f"{NAME}/gencore.json", **attributes: Any) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_file(tar, name, text, **attributes)
    (tmp_path / "a").write_bytes(gzip.compress(buffer.getvalue(), 1))
    return tmp_path / "a"


TEXT = json.dumps(MANIFEST).encode()


@pytest.mark.parametrize(
    "name",
    [
        "gencore.json",
        "/gencore.json",
        "../gencore.json",
        "./gencore.json",
        f"{NAME}/x/gencore.json",
        f"/{NAME}/gencore.json",
        "a\x1b[2Jb/gencore.json",
        f"{NAME}/manifest.json",
    ],
)
def test_first_member_is_no_manifest(tmp_path: Path, name: str) -> None:
    assert "the first member is not a manifest" in refusal_of_reading(made(tmp_path, TEXT, name=name))


def test_top_folder_of_another_archive(tmp_path: Path) -> None:
    path = made(tmp_path, TEXT, name="core_x/gencore.json")

    assert "top folder is not what its manifest says" in refusal_of_reading(path)


@pytest.mark.parametrize(
    "attributes",
    [{"type": tarfile.DIRTYPE, "size": 0}, {"type": tarfile.LNKTYPE, "linkname": "x", "size": 0}],
)
def test_manifest_that_is_no_file(tmp_path: Path, attributes: dict[str, Any]) -> None:
    assert "manifest" in refusal_of_reading(made(tmp_path, b"", **attributes))


def test_gigabytes_of_manifest(tmp_path: Path) -> None:
    info = tarfile.TarInfo(f"{NAME}/gencore.json")
    info.size = 8 << 30
    (tmp_path / "a").write_bytes(gzip.compress(info.tobuf()))

    assert f"not a file of at most {JSON_LIMIT} bytes" in refusal_of_reading(tmp_path / "a")


def test_manifest_that_never_comes(tmp_path: Path) -> None:
    """Empty stored blocks of deflate are input without output."""
    data = gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 2_000_000
    (tmp_path / "a").write_bytes(data)

    assert "does not come within the limit" in refusal_of_reading(tmp_path / "a")


def test_endless_empty_gzip_members(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"") * 100_000)

    assert "too many gzip members" in refusal_of_reading(tmp_path / "a")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not valid JSON"),
        (b"[" * 200_000, "not valid JSON"),
        (b"[1]", "the whole of the manifest is not an object"),
        (b'{"schema_version": 1} {}', "not valid JSON"),
        (b'{"schema_version": NaN}', "NaN is not a number of JSON"),
        (b'{"schema_version": 1e999}', "a number is too large"),
        (b'{"schema_version": ' + b"9" * 4000 + b"}", "too many digits"),
        (b'{"schema_version": 3}', "schema_version 3, this version of pytest-gencore reads 1 to 2"),
        (b'{"schema_version": true}', "schema_version of the manifest is not a whole number"),
        (b"{}", "the manifest lacks schema_version"),
        ('{"ä": 1}'.encode(), "not valid JSON"),
        (b"[" + b"[]," * 400_000 + b"1]", "too many entries"),
    ],
)
def test_manifest_that_is_wrong(tmp_path: Path, text: bytes, reason: str) -> None:
    assert reason in refusal_of_reading(made(tmp_path, text))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trigger": "boredom"}, "trigger of the manifest"),
        ({"pid": -1}, "pid of the manifest is not a whole number"),
        ({"pid": 1 << 64}, "pid of the manifest is not a whole number"),
        ({"pid": 1.5}, "pid of the manifest is not a whole number"),
        ({"complete": 1}, "complete of the manifest is not true or false"),
        ({"threads": {}}, "threads of the manifest is not a list"),
        ({"threads": [{"tid": 1, "name": "x"}]}, "the manifest lacks threads[0].native_registers"),
        ({"core": 1}, "core of the manifest is not an object"),
        ({"type": "tiny"}, "type of the manifest is not full, heap, mini, text or libraries"),
        ({"notices": [1]}, "notices of the manifest is not a list of strings"),
        ({"executable": "bin/python"}, "executable of the manifest is not an absolute path"),
        ({"executable": "/usr/../../python"}, "executable of the manifest is not an absolute path"),
        ({"executable": "C:python.exe"}, "executable of the manifest is not an absolute path"),
        ({"executable": "C:/../python.exe"}, "executable of the manifest is not an absolute path"),
        ({"executable": "/usr/python\0"}, "executable of the manifest is not an absolute path"),
        ({"timings": {"stop_ms": "1"}}, "timings.stop_ms of the manifest is not a number"),
        (
            {"versions": {**MANIFEST["versions"], "python": []}},
            "versions.python of the manifest is not an object",
        ),
    ],
)
def test_field_that_is_wrong(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    assert reason in refusal_of_reading(made(tmp_path, json.dumps(new_manifest(**changes)).encode()))
