"""What is made to take much memory takes little."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest
from made_archives import NAME, add_file, new_manifest, tar_archive
from subjects import search_path

from pytest_gencore.archive.json_text import JSON_LIMIT

if TYPE_CHECKING:
    from pathlib import Path

READ = """
import json, os, resource, sys
from pathlib import Path
from pytest_gencore.archive import read_archive
import pytest_gencore.archive.unpacker
from pytest_gencore.errors import ArchiveError
used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)
result = "unpacked"
try:
    archive = read_archive(sys.argv[1])
    archive.stacks()
    archive.unpack(Path(sys.argv[1]).parent / "out")
except ArchiveError as error:
    result = str(error)
print(json.dumps(result))
"""


def read_with_little_memory(path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", READ, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": search_path()},
    )
    assert done.returncode == 0, done.stderr
    result: str = json.loads(done.stdout)
    return result


MANIFEST_TEXTS = {
    "empty lists": b"[" + b"[]," * 240_000 + b"1]",
    "objects": b"[" + b'{"":0},' * 120_000 + b"1]",
    "keys": b"{" + b",".join(b'"%d":0' % number for number in range(240_000)) + b"}",
    "a wide string": b'"\\ud83d\\ude00' + b"x" * (JSON_LIMIT - 20) + b'"',
    "depth": b"[" * 200_000,
    "numbers": b"[" + b"1e1," * 240_000 + b"1]",
}


@pytest.mark.parametrize("text", MANIFEST_TEXTS.values(), ids=list(MANIFEST_TEXTS))
def test_manifest(tmp_path: Path, text: bytes) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_file(tar, f"{NAME}/gencore.json", b'{"schema_version": 1, "x": ' + text + b"}")
    (tmp_path / "a").write_bytes(gzip.compress(buffer.getvalue(), 1))

    assert "manifest" in read_with_little_memory(tmp_path / "a")


@pytest.mark.slow
@pytest.mark.parametrize("count", [1_999_999, 100_000_000])
def test_sparse_map(tmp_path: Path, count: int) -> None:
    manifest = new_manifest(libraries=[])
    manifest["core"] |= {"size": 1 << 50, "data_size": 0}
    lines = min(count, 1_999_999)
    sparse_map = f"{count}\n".encode() + b"9000000000000\n0\n" * lines
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": f"{NAME}/core"}
    with tar_archive(tmp_path / "a", manifest) as tar:
        padded = sparse_map.ljust(-(-len(sparse_map) // 512) * 512, b"\0")
        add_file(tar, "x", padded, pax_headers={**headers, "GNU.sparse.realsize": str(1 << 50)})

    result = read_with_little_memory(tmp_path / "a")

    assert result.startswith(
        "the archive is corrupt: the map" if count == lines else "a sparse file has"
    ) or (count == lines and ("unpacked" in result or "File too large" in result))


def write_folders(tar: tarfile.TarFile, count: int) -> None:
    """Add folders with long names: copies of one, whose number stands in its pax header only."""
    folder = tarfile.TarInfo(f"{NAME}/{'x' * 240}/{'y' * 240}/{'z' * 240}NUMBER")
    folder.type = tarfile.DIRTYPE
    member = folder.tobuf(tarfile.PAX_FORMAT)
    assert member.count(b"NUMBER") == 1
    assert tar.fileobj is not None
    for number in range(count):
        tar.fileobj.write(member.replace(b"NUMBER", b"%06d" % number))
    tar.offset += count * len(member)


@pytest.mark.slow
def test_text_and_members(tmp_path: Path) -> None:
    with tar_archive(tmp_path / "a") as tar:
        add_file(tar, f"{NAME}/stacks.txt", "\N{GRINNING FACE}".encode() * (60 << 18))
        write_folders(tar, 12_000)

    assert "too many members" in read_with_little_memory(tmp_path / "a")
