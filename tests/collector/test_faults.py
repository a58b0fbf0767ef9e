"""Faults injected for real: each ends with a clear line, and leaves nothing but what could be saved."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import both_methods, has_program, needs
from dying import lines_of_gencore, run_dying
from gencore_archives import read_manifest, read_member
from held_captures import HELPERS
from kernel import settings_lock, small_disk
from process_state import processes_in
from subjects import run_subject

from pytest_gencore.capture import _native

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = r"the disk is (full: No space left on device: {0}|nearly full: {0} has .*)"


def only(answer: Any) -> Any:
    (outcome,) = answer["outcomes"]
    return outcome


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
        assert list((disk / "out").iterdir()) == []
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
            rf"the disk is nearly full: {disk}/out has 1\d\.\d MiB free, captures leave 16\.0 MiB "
            r"\(free space or choose another --gencore-dir\)",
            second["reason"],
        )
        assert list((disk / "out").iterdir()) == [Path(first["archive"])]


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


# ---- the directory ---------------------------------------------------------------------------------------

REMOVED = """
import shutil
captures = Captures(sys.argv[1])
capture, collector = hold(captures, nodeid="a")
shutil.rmtree(captures.directory)
collector.resume()
psutil.wait_procs([collector], 50)
report(outcomes=captures.finish(), exists=captures.directory.exists(), alive=collector.is_running())
"""


def test_directory_removed(tmp_path: Path) -> None:
    answer = run_subject(HELPERS + REMOVED, tmp_path / "out")

    assert (answer["exists"], answer["outcomes"]) == (False, [])
    assert not answer["alive"]


REMOVED_BY_A_CRASH = """
import shutil
from kernel import wait_until
directory = Path(sys.argv[1])
def remove():
    wait_until(lambda: list(directory.glob("*.partial")), "the capture began")
    shutil.rmtree(directory, ignore_errors=True)
pid = os.fork()
if pid:
    remove()
    os.waitpid(pid, 0)
else:
    Dying(directory).watch_crashes(method="memory")
    ballast = os.urandom(100 << 20)
    ctypes.string_at(8)
"""


def test_directory_removed_under_a_crash(tmp_path: Path) -> None:
    dead = run_dying(REMOVED_BY_A_CRASH, tmp_path / "out")

    assert not (tmp_path / "out").exists()
    assert re.fullmatch(
        r"gencore: no core archive: (.* is gone: was the directory removed\?|the directory was removed: .*)",
        lines_of_gencore(dead.errors)[-1],
    )


TAKEN = """
captures = Captures(sys.argv[1])
capture, collector = hold(captures, nodeid="a")
capture.archive.write_text("mine")
collector.resume()
report(outcomes=captures.finish(), text=capture.archive.read_text())
"""


def test_name_taken_meanwhile(tmp_path: Path) -> None:
    answer = run_subject(HELPERS + TAKEN, tmp_path)

    outcome = only(answer)
    assert (outcome["state"], outcome["reason"]) == ("failed", f"{outcome['archive']} exists already")
    assert answer["text"] == "mine"
    assert [str(path) for path in tmp_path.iterdir()] == [outcome["archive"]]


TWO_SESSIONS = """
one, other = Captures(sys.argv[1]), Captures(sys.argv[1])
for captures in (one, other, one, other):
    captures.take(trigger="failure", nodeid=f"test {captures is one}{len(captures.run.outcomes())}")
first = one.finish()
report(outcomes=[*first, *other.finish()])
"""


def test_two_sessions_in_one_directory(tmp_path: Path) -> None:
    outcomes = run_subject(HELPERS + TWO_SESSIONS, tmp_path)["outcomes"]

    assert [outcome["state"] for outcome in outcomes] == ["done"] * 4
    assert {str(path) for path in tmp_path.iterdir()} == {outcome["archive"] for outcome in outcomes}


# ---- processes -------------------------------------------------------------------------------------------

KILLED = """
captures = Captures(sys.argv[1])
captures.engine = CaptureEngine(captures.directory, captures.run_id, max_captures=1)
capture, collector = hold(captures, nodeid="a")
(snapshot,) = collector.children()
snapshot.suspend()
collector.resume()
wait_until(lambda: captures.run.outcomes()[0].captured_pid, "it is at work")
{"collector": collector, "snapshot": snapshot}[sys.argv[2]].kill()
captures.run.wait(timeout=50)
marks = marks_in(captures)
again = captures.take(trigger="failure", nodeid="a")
report(outcomes=captures.finish(), marks=marks)
"""


@pytest.mark.parametrize(
    ("victim", "reason"),
    [
        ("collector", "the collector was killed; out of memory?"),
        ("snapshot", "the snapshot ended before it was read (signal 9) (out of memory?)"),
    ],
)
def test_killed(tmp_path: Path, victim: str, reason: str) -> None:
    answer = run_subject(HELPERS + KILLED, tmp_path, victim)

    first, second = answer["outcomes"]
    assert (first["state"], first["reason"]) == ("failed", reason)
    assert answer["marks"] == [], "its place is free"
    assert second["state"] == "done"
    assert list(tmp_path.iterdir()) == [Path(second["archive"])]
    assert not processes_in(tmp_path)


CAPTURED_IS_KILLED = """
from subjects import run_subject
captures = Captures(sys.argv[1])
pid = os.fork()
if not pid:
    captures.take(trigger="failure", nodeid="a")
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(pid, 0)
report(outcomes=captures.finish(), pid=pid)
"""


def test_captured_process_is_killed(tmp_path: Path) -> None:
    answer = run_subject(HELPERS + CAPTURED_IS_KILLED, tmp_path)

    outcome = only(answer)
    assert (outcome["state"], outcome["captured_pid"]) == ("done", answer["pid"])
    assert read_manifest(Path(outcome["archive"]))["complete"]


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


# ---- the clock -------------------------------------------------------------------------------------------

SHIFTED_COLLECTOR = """
import sys; sys.path += sys.argv[1:]
import os, struct, time
began = struct.unpack_from("<q", os.pread(3, 72, 0), 56)[0]
assert abs(began - time.time_ns()) < 60 * 10**9, "the field started_ns of struct gencore_record"
os.pwrite(3, struct.pack("<q", began + SHIFT * 10**9), 56)
real = time.time_ns
time.time_ns = lambda: real() + SHIFT * 10**9
from pytest_gencore.collector.main import main; main()
"""
SHIFTED = """
from pytest_gencore.capture import engine
program, method = sys.argv[2:]
describe = engine._collector_command
def command():
    parts = describe()
    parts[parts.index("-c") + 1] = program
    return parts
engine._collector_command = command
captures = Captures(sys.argv[1])
captures.take(method=method)
report(outcomes=captures.finish())
"""


@pytest.mark.parametrize("shift", [-10 * 365 * 86400, -3600, 3600])
@pytest.mark.parametrize("method", ["memory", "kernel"])
def test_clock_set(tmp_path: Path, shift: int, method: str) -> None:
    """The capture and the collector's clock are of another time than the files of the kernel."""
    program = SHIFTED_COLLECTOR.replace("SHIFT", str(shift))
    with settings_lock(exclusive=False):
        outcome = only(run_subject(HELPERS + SHIFTED, tmp_path, program, method))

    assert (outcome["state"], outcome["reason"]) == ("done", "")
    archive = Path(outcome["archive"])
    manifest = read_manifest(archive)
    assert manifest["complete"]
    assert manifest["timings"]["collect_s"] < 60, "durations are not taken from that clock"
    subprocess.run(["tar", "tzf", archive], check=True, stdout=subprocess.DEVNULL)
