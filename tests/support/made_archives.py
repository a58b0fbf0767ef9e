"""Archives made by hand, with the collector's writer or byte by byte: small, and wrong where a test wants."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

from pytest_gencore.archive.writer import ArchiveWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_gencore.archive.writer import FileWriter

NAME = "core_20261121.225921.9520.001"
MTIME = 1_790_000_000
EXECUTABLE = "/usr/bin/python3.11"
LIBRARY = "/usr/lib/libz.so.1.2.13"
ALIAS = "/lib/libz.so.1"
STACKS = "Thread MainThread\n  File 'x'\n"
FAILURE = "E   assert 1 == 2\n"
CORE_SIZE = 64 << 10
EXTENTS = ((0, 4096), (16384, 4096), (61440, 4096))
CONTENTS = {EXECUTABLE: b"executable " * 100, LIBRARY: b"library " * 300}
MANIFEST: dict[str, Any] = {
    "schema_version": 2,
    "name": NAME,
    "created": "2026-11-21T22:59:21.123+00:00",
    "complete": True,
    "trigger": {
        "kind": "failure",
        "signal": None,
        "signal_number": None,
        "code": None,
        "code_name": None,
        "address": None,
        "abort_message": None,
        "deadline_s": None,
        "deadline_source": None,
        "sender": None,
        "exception": "AssertionError",
    },
    "diagnosis": {"verdict": None, "kind": None, "complete": True},
    "last_output": [],
    "nodeid": "test_three.py::test_one",
    "phase": "call",
    "place": "",
    "attempt": 1,
    "worker_id": "gw0",
    "pid": 9520,
    "child_of": None,
    "threads": [
        {"tid": 9520, "name": "python", "native_registers": True, "reason": None},
        {"tid": 9521, "name": "waiter", "native_registers": False, "reason": "it did not answer in time"},
    ],
    "threads_stopped": True,
    "type": "full",
    "method": "memory",
    "method_reason": "the default",
    "core": {"size": CORE_SIZE, "data_size": 12288, "truncated": False, "coredump_filter": "0xff"},
    "notices": ["pages that could not be read and are zeros: 7"],
    "redaction": {
        "variables": ["A_TOKEN", "PASSWORD"],
        "others": 1,
        "places": 7,
        "too_short": ["PIN_TOKEN"],
    },
    "environment": ["PATH", "HOME"],
    "executable": EXECUTABLE,
    "libraries": [
        {
            "path": path,
            "build_id": None,
            "size": len(data),
            "included": True,
            "note": "",
            "aliases": [ALIAS] if path == LIBRARY else [],
            "sha256": None,
        }
        for path, data in CONTENTS.items()
    ],
    "timings": {"stop_ms": 0.2, "snapshot_ms": 1.5, "pause_ms": 1.8, "held": False, "collect_s": 0.4},
    "versions": {
        "pytest_gencore": "0.1.0",
        "python": {"implementation": "CPython", "version": "3.11.7"},
        "kernel": "Linux 6.1",
        "machine": "x86_64",
    },
    "sealed": None,
    "open_with": "gencore debug",
}


def new_manifest(**changes: Any) -> dict[str, Any]:
    """Return a manifest that is right, but for the changes; with no field that collectors do not write."""
    assert changes.keys() <= MANIFEST.keys()
    return {**copy.deepcopy(MANIFEST), **changes}


def core_contents() -> bytes:
    """Return the contents of the made core's extents."""
    return b"".join(bytes([number]) * 4096 for number in (1, 2, 3))


def read_core(offset: int, buffer: memoryview) -> None:
    """Fill a buffer with what is at an offset in one of the made core's extents."""
    (number,) = (number for number, (start, _) in enumerate(EXTENTS, 1) if 0 <= offset - start < 4096)
    buffer[:] = bytes([number]) * len(buffer)


def write_archive(directory: Path, manifest: dict[str, Any] | None = None) -> Path:
    """Write an archive as a collector does, with a core of three extents; ``manifest`` may lie."""
    path = directory / f"{NAME}.tar.gz"
    encoded = json.dumps(MANIFEST if manifest is None else manifest, indent=1).encode()
    with path.open("wb") as file, ArchiveWriter(file, NAME, MTIME) as writer:
        writer.reserve_manifest(encoded, 512)
        add_members(writer)
    return path


def add_members(writer: FileWriter) -> None:
    """Write all that the manifest lists, and some texts."""
    writer.add_top_folder()
    writer.add_bytes("stacks.txt", STACKS.encode())
    writer.add_bytes("failure.txt", FAILURE.encode())
    writer.add_bytes("open.gdb", b"# nothing\n")
    writer.add_sparse("core", CORE_SIZE, EXTENTS, read_core)
    for name, data in CONTENTS.items():
        writer.add_bytes(name, data, 0o700)
    writer.add_link(ALIAS, LIBRARY)


@contextlib.contextmanager
def tar_archive(path: Path, manifest: dict[str, Any] | None = None) -> Iterator[tarfile.TarFile]:
    """Give a tar file that begins with a manifest, to add anything to; at the end it goes into ``path``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        encoded = json.dumps(new_manifest(libraries=[]) if manifest is None else manifest).encode()
        add_file(tar, f"{NAME}/gencore.json", encoded)
        yield tar
    path.write_bytes(gzip.compress(buffer.getvalue(), 1))


def add_file(tar: tarfile.TarFile, name: str, data: bytes = b"", **attributes: Any) -> None:
    """Add a member of any name and type."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))
