"""The sealed part of archives: written by the writer, read by age and by us, damaged by the test."""

from __future__ import annotations

import errno
import json
import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from capabilities import needs
from made_archives import CONTENTS, MANIFEST, MTIME, NAME, STACKS, add_members
from repacked import repack
from sealed_runs import make_key, open_with_age

from pytest_gencore.age import load_pyrage, parse_recipient
from pytest_gencore.archive import read_archive, sealed_writer
from pytest_gencore.archive.names import SEALED_NAME
from pytest_gencore.archive.sealed_writer import SealedWriter
from pytest_gencore.archive.writer import ManifestTooLongError
from pytest_gencore.errors import ArchiveError

MIB = 1 << 20
ENCODED = json.dumps(MANIFEST).encode()


def count_held() -> tuple[int, int]:
    """Return how many threads and descriptors there are."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def write_sealed(folder: Path, data: bytes = b"", manifest: bytes = ENCODED, slack: int = 512) -> Path:
    """Write an archive for the new key ``folder / "key"``."""
    path = folder / f"{NAME}.tar.gz"
    recipients = [parse_recipient(make_key(folder))]
    with path.open("wb") as file, SealedWriter(file, NAME, MTIME, recipients) as writer:
        writer.reserve_manifest(ENCODED, slack)
        add_members(writer)
        writer.add_bytes("data", data)
        writer.finish(lambda: manifest)
    return path


@needs("age")
@pytest.mark.parametrize("size", [0, 1, 65_536, 3 * MIB + 7])
def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    before = count_held()

    path = write_sealed(tmp_path, data)

    archive = read_archive(path, identities=[tmp_path / "key"])
    assert archive.manifest.document == MANIFEST
    assert archive.stacks() == STACKS
    ours = archive.unpack(tmp_path / "ours")
    theirs = open_with_age(path, tmp_path / "key", tmp_path)
    for top in (ours, theirs):
        assert (top / "data").read_bytes() == data
        assert json.loads((top / "gencore.json").read_text()) == MANIFEST
        for name, contents in CONTENTS.items():
            assert (top / name.lstrip("/")).read_bytes() == contents
    assert count_held() == before


def test_what_everybody_may_read(tmp_path: Path) -> None:
    manifest = {
        **MANIFEST,
        "trigger": {**MANIFEST["trigger"], "sender": {"pid": 1, "uid": 0, "command": "secret"}},
        "diagnosis": {"verdict": "secret", "kind": "deadlock", "complete": True},
        "last_output": ["secret"],
        "notices": ["secret"],
        "method_reason": "secret",
    }

    path = write_sealed(tmp_path, manifest=json.dumps(manifest).encode())

    short = read_archive(path).manifest
    assert short.sealed is not None
    document: dict[str, Any] = {**short.document, "sealed": None}
    assert "secret" not in json.dumps(document)
    changed = {name for name, value in document.items() if value != manifest[name]}
    assert changed == {
        "trigger",
        "diagnosis",
        "last_output",
        "threads",
        "method_reason",
        "notices",
        "redaction",
        "environment",
        "executable",
        "libraries",
        "open_with",
    }
    assert read_archive(path, identities=[tmp_path / "key"]).manifest.document == manifest


def test_a_manifest_that_is_too_long_is_told_last(tmp_path: Path) -> None:
    """The archive is whole then, and its short manifest can be written again."""
    long = json.dumps({**MANIFEST, "notices": [os.urandom(5000).hex()]}).encode()

    with pytest.raises(ManifestTooLongError):
        write_sealed(tmp_path, manifest=long)

    archive = read_archive(tmp_path / f"{NAME}.tar.gz", identities=[tmp_path / "key"])
    assert archive.unpack(tmp_path / "out").is_dir()


def test_a_long_manifest_fits(tmp_path: Path) -> None:
    """As the manifest of 10,000 threads: it is within the limit, its base 64 would not be."""
    thread = MANIFEST["threads"][0]
    manifest = {**MANIFEST, "threads": [{**thread, "tid": number} for number in range(43_000)]}
    encoded = json.dumps(manifest).encode()
    assert 3 * MIB < len(encoded) < 4 * MIB

    path = write_sealed(tmp_path, manifest=encoded, slack=MIB)

    assert len(read_archive(path, identities=[tmp_path / "key"]).manifest.threads) == 43_000


def test_a_full_disk_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = count_held()
    writes = iter(range(3))

    def write_parts(descriptor: int, parts: list[bytes]) -> None:
        if next(writes, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.writev(descriptor, parts)

    monkeypatch.setattr(sealed_writer, "write_parts", write_parts)

    with pytest.raises(OSError, match="No space left on device"):
        write_sealed(tmp_path, os.urandom(20 * MIB))

    assert count_held() == before


def test_an_archive_that_is_given_up(tmp_path: Path) -> None:
    before = count_held()
    recipients = [parse_recipient(make_key(tmp_path))]
    path = tmp_path / f"{NAME}.tar.gz"

    class GivenUpError(Exception):
        pass

    def give_up(*, late: bool) -> None:
        with path.open("wb") as file, SealedWriter(file, NAME, MTIME, recipients) as writer:
            if late:
                writer.reserve_manifest(ENCODED, 512)
                writer.add_bytes("data", os.urandom(3 * MIB))
            raise GivenUpError

    for late in (False, True):
        with pytest.raises(GivenUpError):
            give_up(late=late)

    assert read_archive(path).manifest.sealed is not None
    with pytest.raises(ArchiveError, match=r"corrupt|truncated"):
        read_archive(path, identities=[tmp_path / "key"]).unpack(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    assert count_held() == before


def test_reading_may_stop_anywhere(tmp_path: Path) -> None:
    before = count_held()
    path = write_sealed(tmp_path, os.urandom(5 * MIB))

    assert read_archive(path, identities=[tmp_path / "key"]).stacks() == STACKS

    assert count_held() == before


@pytest.mark.parametrize("seed", range(12))
def test_damage_is_never_taken_for_the_truth(tmp_path: Path, seed: int) -> None:
    """Either the reader says that it is damaged, or what was damaged does not matter, as padding does."""
    chance = random.Random(seed)
    data = chance.randbytes(300_000)
    path = write_sealed(tmp_path, data)
    whole = path.read_bytes()
    for number in range(10):
        at = chance.randrange(len(whole))
        damaged = whole[:at] if number % 2 else whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        path.write_bytes(damaged)
        out = tmp_path / str(number)
        try:
            top = read_archive(path, identities=[tmp_path / "key"]).unpack(out)
        except ArchiveError:
            assert not out.exists() or not list(out.iterdir())
        else:
            assert (top / "data").read_bytes() == data
            assert json.loads((top / "gencore.json").read_text()) == MANIFEST


@pytest.mark.parametrize("text", ["\u00e9\u00e9", "no base 64", "", "AAAA"])
def test_a_manifest_that_is_none(tmp_path: Path, text: str) -> None:
    path = write_sealed(tmp_path)

    def change(manifest: dict[str, Any]) -> None:
        manifest["sealed"]["manifest"] = text

    changed = repack(path, tmp_path / "changed.tar.gz", change=change)

    with pytest.raises(ArchiveError, match="the archive is corrupt"):
        read_archive(changed, identities=[tmp_path / "key"])


def test_pyrage_may_be_imported_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where pytester runs pytest in its own process: it removes what was imported meanwhile."""
    load_pyrage()
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyrage"]:
        monkeypatch.delitem(sys.modules, name)

    path = write_sealed(tmp_path)

    assert read_archive(path, identities=[tmp_path / "key"]).stacks() == STACKS


def test_keys_with_comments(tmp_path: Path) -> None:
    path = write_sealed(tmp_path)
    key = (tmp_path / "key").read_text()
    (tmp_path / "commented").write_text(f"# Schlüssel\n\n{key}")
    (tmp_path / "large").write_text("#\n" * 100_000 + key)

    assert read_archive(path, identities=[tmp_path / "commented"]).stacks() == STACKS
    with pytest.raises(ArchiveError, match="is too large"):
        read_archive(path, identities=[tmp_path / "large"])


def test_a_header_without_end_is_bounded(tmp_path: Path) -> None:
    """A stranger's archive cannot fill the memory with a header."""
    endless = b"age-encryption.org/v1\n" + b"-> X25519 x\n" * 30_000
    path = write_sealed(tmp_path)

    changed = repack(path, tmp_path / "changed.tar.gz", members={SEALED_NAME: endless})

    with pytest.raises(ArchiveError, match="does not begin as age's files do"):
        read_archive(changed, identities=[tmp_path / "key"]).stacks()
