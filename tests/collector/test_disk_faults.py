"""Disks that fail, for real: each fault ends with a clear line, and what could be saved is left."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capabilities import both_methods, has_program, needs
from gencore_archives import find_left, read_manifest, read_member
from held_captures import HELPERS
from kernel import small_disk
from outcomes import only
from process_state import processes_in
from subjects import run_subject

from pytest_gencore.capture import _native

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = (
    r"the disk is (full: No space left on device: {0}|nearly full: {0} has .*)"
    r"|the collector ended without a word, and the disk is full: {0}"
)


# ---- the disk --------------------------------------------------------------------------------------------

FILL = """
import contextlib, time
def fill(folder):
    '''Take all that is left.'''
    with open(folder / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))

moment, method = sys.argv[2:4]
captures = Captures(sys.argv[1])
disk = captures.directory.parent
ballast = os.urandom(16 << 20)
if moment == "before":
    fill(disk)
captures.take(trigger="failure", nodeid="a", method=method)
(collector,) = collectors()
if moment == "start":
    collector.suspend()
    fill(disk)
    collector.resume()
elif moment != "before":
    def has_come():
        sizes = [path.stat().st_size for path in captures.directory.glob("*.partial")]
        return not sizes or sizes[0] >= int(moment) << 20
    while not has_come():
        time.sleep(0.001)
    collector.suspend()
    fill(disk)
    collector.resume()
captures.run.wait(timeout=50)
(disk / "filler").unlink()
marks = marks_in(captures)
report(outcomes=captures.finish(), marks=marks)
"""


@pytest.mark.slow(rows=3)
@needs("root")
@both_methods
@pytest.mark.parametrize("moment", ["before", "start", "2", "12", "20"])
def test_disk_full(tmp_path: Path, moment: str, method: str) -> None:
    with small_disk(tmp_path / "disk", "128m") as disk:
        answer = run_subject(HELPERS + FILL, disk / "out", moment, method)

        outcome = only(answer)
        assert outcome["state"] == "failed"
        assert re.match(FULL.format(re.escape(str(disk / "out"))), outcome["reason"]), outcome["reason"]
        assert answer["marks"] == [], "others may capture instead"
        assert find_left(disk / "out") == []
        assert not processes_in(disk)


PLAIN = """
captures = Captures(sys.argv[1])
captures.take(method=sys.argv[2])
report(outcomes=captures.finish())
"""


@needs("root")
def test_a_reserve_stays_free(tmp_path: Path) -> None:
    """On 64 MiB 16 are left: an archive of some 18 fits, with 38 less room it does not."""
    with small_disk(tmp_path / "disk", "64m") as disk:
        first = only(run_subject(HELPERS + PLAIN, disk / "out", "memory"))
        (disk / "filler").write_bytes(bytes(20 << 20))
        second = only(run_subject(HELPERS + PLAIN, disk / "out", "memory"))

        assert (first["state"], second["state"]) == ("done", "failed")
        assert re.fullmatch(
            rf"the disk is nearly full: {disk}/out has 1\d\.\d MiB free, captures keep 16\.0 MiB free "
            r"\(free space or choose another --gencore-dir\)",
            second["reason"],
        )
        assert find_left(disk / "out") == [Path(first["archive"])]


READ_ONLY = """
import subprocess
captures = Captures(sys.argv[1])
captures.directory.mkdir()
subprocess.run(["mount", "-o", "remount,ro", captures.directory.parent], check=True)
try:
    captures.take()
except Exception as error:
    report(error=f"{type(error).__name__}: {error}", left=names_in(captures))
"""


@needs("root")
def test_read_only_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64m") as disk:
        answer = run_subject(HELPERS + READ_ONLY, disk / "out")

    assert answer["error"].startswith("CaptureError: cannot make a private folder in ")
    assert "EROFS Read-only file system" in answer["error"]
    assert answer["left"] == []


# ---- a library on a disk that fails ------------------------------------------------------------------------

BROKEN_LIBRARY = """
import ctypes, subprocess
library, image = sys.argv[2:]
ctypes.CDLL(library)
os.truncate(image, 2 << 20)  # what lies behind cannot be read any more
with open(library, "rb") as file:
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
captures = Captures(sys.argv[1])
captures.take()
report(outcomes=captures.finish())
"""


@contextlib.contextmanager
def failing_disk(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Mount a file system from an image: reading it fails when the image is cut short. Yield both."""
    image, point = folder / "image", folder / "mounted"
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image], check=True)
    mount = subprocess.run(["mount", "-o", "loop", image, point], check=False, capture_output=True)
    if mount.returncode:
        pytest.skip("no loop device")
    try:
        yield image, point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


@pytest.mark.slow
@needs("root")
@pytest.mark.skipif(not has_program("mkfs.ext4"), reason="no mkfs.ext4")
def test_library_that_cannot_be_read(tmp_path: Path) -> None:
    """Its mapped part is in memory; behind that the disk gives EIO: the archive is whole, and says so."""
    with failing_disk(tmp_path) as (image, point):
        library = point / "library.so"
        data = Path(_native.__file__).read_bytes()
        library.write_bytes(data + os.urandom(20 << 20))
        os.sync()
        outcome = only(run_subject(HELPERS + BROKEN_LIBRARY, tmp_path / "out", str(library), str(image)))

        assert outcome["state"] == "done", outcome["reason"]
        archive = Path(outcome["archive"])
        manifest = read_manifest(archive)
        (described,) = (entry for entry in manifest["libraries"] if entry["path"] == str(library))
        assert re.fullmatch(r"\d+ bytes could not be read and are zeros", described["note"])
        assert f"{library} could not be read to its end: Input/output error" in manifest["notices"]
        kept = read_member(archive, str(library).lstrip("/"))
        assert len(kept) == len(data) + (20 << 20)
        assert kept.endswith(bytes(1 << 20))
        assert manifest["complete"]
