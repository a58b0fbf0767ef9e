"""Archives of strangers: refused with a reason, and nothing written."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_archives import (
    CORE_SIZE,
    EXTENTS,
    LIBRARY,
    MANIFEST,
    NAME,
    add_file,
    core_contents,
    new_manifest,
    tar_archive,
    write_archive,
)

from pytest_gencore.archive import read_archive
from pytest_gencore.archive.manifest_parser import MANIFEST_LIMIT
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable


def refusal_of_reading(path: Path) -> str:
    with pytest.raises(ArchiveError) as caught:
        read_archive(path)
    return str(caught.value)


def refusal_of_unpacking(path: Path) -> str:
    """Return why an archive cannot be unpacked; nothing may be left, nothing written elsewhere."""
    archive = read_archive(path)
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(ArchiveError) as caught:
        archive.unpack(path.parent / "out")
    assert not list((path.parent / "out").iterdir())
    (path.parent / "out").rmdir()
    assert sorted(path.parent.rglob("*")) == before
    return str(caught.value)


# ---- the file and the manifest ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"PK\3\4 a zip file", "not a gzip file"),
        (gzip.compress(b"text"), "truncated"),
        (gzip.compress(b"text" * 1000), "not a tar file"),
        (gzip.compress(bytes(10240)), "the first member is not a manifest"),
        (b"\x1f\x8b\x08", "truncated"),
    ],
    ids=["empty", "zip", "short", "no tar", "zeros", "cut"],  # in gzip data is the time
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

    assert f"not a file of at most {MANIFEST_LIMIT} bytes" in refusal_of_reading(tmp_path / "a")


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
        ({"core": None}, "core of the manifest is not an object"),
        ({"notices": [1]}, "notices of the manifest is not a list of strings"),
        ({"executable": "bin/python"}, "executable of the manifest is not an absolute path"),
        ({"executable": "/usr/../../python"}, "executable of the manifest is not an absolute path"),
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


# ---- members ---------------------------------------------------------------------------------------------


def with_core(tar: tarfile.TarFile) -> None:
    """Add the core that the manifest lists, as plain as it can be."""
    numbers = "".join(f"{offset}\n{length}\n" for offset, length in EXTENTS)
    sparse_map = f"{len(EXTENTS)}\n{numbers}".encode().ljust(512, b"\0")
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": f"{NAME}/core",
        "GNU.sparse.realsize": str(CORE_SIZE),
    }
    add_file(tar, "GNUSparseFile.0/core", sparse_map + core_contents(), pax_headers=headers)


def unpack_with(tmp_path: Path, *add: Callable[[tarfile.TarFile], None]) -> str:
    with tar_archive(tmp_path / "a") as tar:
        for function in add:
            function(tar)
    return refusal_of_unpacking(tmp_path / "a")


def test_made_core_is_right(tmp_path: Path) -> None:
    """What follows is refused for its own sake."""
    with tar_archive(tmp_path / "a") as tar:
        with_core(tar)

    assert (read_archive(tmp_path / "a").unpack(tmp_path) / "core").stat().st_size == CORE_SIZE


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../evil",
        "evil",
        f"{NAME}/../evil",
        f"{NAME}/x/../../evil",
        f"{NAME}/./evil",
        f"{NAME}//etc/passwd",
        f"{NAME}/..",
        f"{NAME}x/evil",
        f"{NAME}/evil\x1b]0;title\x07",
        f"{NAME}/evil\nshell id",
        f"{NAME}/" + "x/" * 120 + "evil",
        f"{NAME}/" + "/".join(["x" * 200] * 30),
    ],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE])
def test_name_that_is_not_safe(tmp_path: Path, name: str, kind: bytes) -> None:
    reason = unpack_with(
        tmp_path, with_core, lambda tar: add_file(tar, name, type=kind, linkname=f"{NAME}/core")
    )

    assert "outside of its folder, or with a name that is not safe" in reason


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.FIFOTYPE, "a FIFO"),
        (tarfile.XGLTYPE, "a global header"),
        (tarfile.GNUTYPE_SPARSE, "of type b'S'"),
        (tarfile.GNUTYPE_LONGLINK, "of type b'K'"),
        (tarfile.CONTTYPE, "of type b'7'"),
    ],
)
def test_kind_that_archives_do_not_have(tmp_path: Path, kind: bytes, what: str) -> None:
    reason = unpack_with(
        tmp_path, with_core, lambda tar: add_file(tar, f"{NAME}/x", type=kind, linkname="/etc/passwd")
    )

    assert f"is {what}; archives hold files, folders and hard links" in reason


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "../../etc/passwd", f"{NAME}/../x", f"{NAME}/none", f"{NAME}/folder", f"{NAME}/x", ""],
)
def test_link_that_leads_elsewhere(tmp_path: Path, target: str) -> None:
    reason = unpack_with(
        tmp_path,
        with_core,
        lambda tar: add_file(tar, f"{NAME}/folder", type=tarfile.DIRTYPE),
        lambda tar: add_file(tar, f"{NAME}/x", type=tarfile.LNKTYPE, linkname=target),
    )

    assert "no earlier file" in reason or "not safe" in reason


@pytest.mark.parametrize("name", ["core", "stacks.txt", "gencore.json"])
def test_member_that_comes_twice(tmp_path: Path, name: str) -> None:
    reason = unpack_with(
        tmp_path,
        with_core,
        lambda tar: add_file(tar, f"{NAME}/stacks.txt"),
        lambda tar: add_file(tar, f"{NAME}/{name}"),
    )

    assert "twice" in reason


def test_file_where_a_folder_is(tmp_path: Path) -> None:
    reason = unpack_with(
        tmp_path,
        with_core,
        lambda tar: add_file(tar, f"{NAME}/x", b"file"),
        lambda tar: add_file(tar, f"{NAME}/x/y", b"file"),
    )

    assert "cannot unpack" in reason


def test_file_that_the_manifest_does_not_list(tmp_path: Path) -> None:
    reason = unpack_with(tmp_path, with_core, lambda tar: add_file(tar, f"{NAME}/x", bytes(65 << 20)))

    assert "too large for a file that the manifest does not list" in reason


def test_size_that_the_manifest_does_not_say(tmp_path: Path) -> None:
    manifest = new_manifest()
    manifest["libraries"][1]["size"] -= 1

    assert "has not the size that the manifest says" in refusal_of_unpacking(
        write_archive(tmp_path, manifest)
    )


def test_library_that_is_missing(tmp_path: Path) -> None:
    manifest = new_manifest()
    manifest["libraries"].append({**manifest["libraries"][1], "path": LIBRARY + "x"})

    assert "the archive lacks" in refusal_of_unpacking(write_archive(tmp_path, manifest))


def test_bomb_of_gzip(tmp_path: Path) -> None:
    """A core that no disk holds, in a file of some KiB."""
    manifest = new_manifest(libraries=[])
    manifest["core"] |= {"size": 1 << 59, "data_size": 1 << 59}

    assert "MiB are needed" in refusal_of_unpacking(write_archive(tmp_path, manifest))


@pytest.mark.parametrize(
    ("sparse_map", "reason"),
    [
        (b"9999999\n0\n512\n", "the limit is 2000000"),
        (b"x\n", "damaged"),
        (b"-1\n", "damaged"),
        (b"", "damaged"),
        (b"2\n4096\n4096\n0\n4096\n", "damaged"),
        (b"1\n65000\n12288\n", "damaged"),
        (b"1\n0\n4096\n", "does not fit its contents"),
        (b"2\n0\n100\n4096\n12188\n", "damaged"),
        (b"1\n" + b"1" * 300 + b"\n5\n", "damaged"),
        (b"900000\n", "damaged"),
    ],
)
def test_map_that_is_wrong(tmp_path: Path, sparse_map: bytes, reason: str) -> None:
    def add(tar: tarfile.TarFile) -> None:
        headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": f"{NAME}/core",
            "GNU.sparse.realsize": str(CORE_SIZE),
        }
        add_file(tar, "x", sparse_map.ljust(512, b"\0") + core_contents(), pax_headers=headers)

    assert reason in unpack_with(tmp_path, add)


@pytest.mark.parametrize("headers", [{"GNU.sparse.major": "0"}, {"GNU.sparse.realsize": "5"}])
def test_sparse_in_another_way(tmp_path: Path, headers: dict[str, str]) -> None:
    reason = unpack_with(tmp_path, lambda tar: add_file(tar, f"{NAME}/core", b"x" * 512, pax_headers=headers))

    assert "sparse in an unknown way" in reason


def test_large_pax_header(tmp_path: Path) -> None:
    """Python's tarfile would read it whole."""
    reason = unpack_with(
        tmp_path, lambda tar: add_file(tar, f"{NAME}/x", pax_headers={"comment": "x" * 200_000})
    )

    assert "bytes of pax headers" in reason


def test_more_members_than_an_archive_has(tmp_path: Path) -> None:
    def add(tar: tarfile.TarFile) -> None:
        for number in range(9):
            add_file(tar, f"{NAME}/" + "/".join(["x" * 200] * 4000) + str(number))

    reason = unpack_with(tmp_path, add)

    assert "pax headers" in reason or "too many members" in reason or "cannot unpack" in reason


@pytest.mark.parametrize("tail", [b"x", b"\0" * 100_000 + b"x"])
def test_something_behind_the_end(tmp_path: Path, tail: bytes) -> None:
    path = write_archive(tmp_path)
    path.write_bytes(path.read_bytes() + gzip.compress(tail))

    assert "behind its end" in refusal_of_unpacking(path)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = write_archive(tmp_path)
    data = path.read_bytes()
    manifest_end = data.index(b"\x1f\x8b", 4)
    for length in {*range(manifest_end, len(data), 97), len(data) - 1}:
        path.write_bytes(data[:length])
        assert "truncated" in refusal_of_unpacking(path)


def test_every_damaged_byte_is_found(tmp_path: Path) -> None:
    """By zlib's checksums, if by nothing else; what gzip's own header holds does not matter."""
    path = write_archive(tmp_path)
    data = bytearray(path.read_bytes())
    second = data.index(b"\x1f\x8b", 4)
    for offset in range(second + 10, len(data), 41):
        damaged = bytearray(data)
        damaged[offset] ^= 0x55
        path.write_bytes(damaged)
        refusal_of_unpacking(path)
