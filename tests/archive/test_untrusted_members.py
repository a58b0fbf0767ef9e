"""Members of archives of strangers: refused with a reason, and nothing written."""

from __future__ import annotations

import gzip
import tarfile
from typing import TYPE_CHECKING

import pytest
from made_archives import (
    CORE_SIZE,
    EXTENTS,
    LIBRARY,
    NAME,
    add_file,
    core_contents,
    new_manifest,
    tar_archive,
    write_archive,
)

from pytest_gencore.archive import read_archive, tar_stream
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


def with_core(tar: tarfile.TarFile, name: str = f"{NAME}/core") -> None:
    """Add the core that the manifest lists, as plain as it can be."""
    numbers = "".join(f"{offset}\n{length}\n" for offset, length in EXTENTS)
    sparse_map = f"{len(EXTENTS)}\n{numbers}".encode().ljust(512, b"\0")
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
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

    assert "does not have the size that the manifest gives" in refusal_of_unpacking(
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


def test_many_pax_headers(tmp_path: Path) -> None:
    """Each is as large as one may be, and the object is small: whoever looks for a text reads them all."""
    path = tmp_path / "a"
    with tar_archive(path) as tar:
        for number in range(200):
            add_file(tar, f"{NAME}/{number}", pax_headers={"comment": "x" * 60_000})

    with pytest.raises(ArchiveError, match="the archive has more than 9437184 bytes of pax headers"):
        read_archive(path).stacks()


def test_many_sparse_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count together, as those of one file do."""
    monkeypatch.setattr(tar_stream, "EXTENTS_LIMIT", 2 * len(EXTENTS))
    for count in (2, 3):
        path = tmp_path / str(count)
        with tar_archive(path) as tar:
            for _ in range(count):
                with_core(tar, f"{NAME}/file")
        if count == 2:
            assert read_archive(path).stacks() is None
        else:
            with pytest.raises(
                ArchiveError, match="the sparse files of the archive have more than 6 extents"
            ):
                read_archive(path).stacks()


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
